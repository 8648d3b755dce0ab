"""Loops over one network and its pages: one that runs the first requests, then the one that serves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from engines.backends import Backend
from engines.memory.kv_plan import KvPlan
from engines.network import ChoosingNetwork, Network
from engines.ops import KvLayer
from engines.options import EngineOptions
from engines.sampling.grammar import Grammars
from engines.sampling.penalties import TokenCounts
from engines.schedule.grammar_pace import ALONE, StepPrices
from engines.schedule.scheduler import Scheduler
from engines.spec import ModelSpec
from engines.start_phases import StartPhases
from engines.steps.engine_loop import EngineLoop
from engines.steps.first_requests import NEW_TOKENS, run_first_requests
from engines.steps.runner import Runner


@dataclass(frozen=True, kw_only=True, slots=True)
class Loops:
    """What a loop is made of. One is to be in use at a time: all have the same pages."""

    network: Network
    recorded: ChoosingNetwork | None  # the same where its steps are recorded
    counts: TokenCounts
    spec: ModelSpec
    kv: Sequence[KvLayer]
    backend: Backend
    options: EngineOptions
    plan: KvPlan
    grammars: Grammars
    overlap: bool

    @classmethod
    def of(
        cls,
        network: Network,
        kv: Sequence[KvLayer],
        backend: Backend,
        options: EngineOptions,
        plan: KvPlan,
        *,
        spec: ModelSpec,
        grammars: Grammars,
        overlap: bool | None,
        phases: StartPhases,
    ) -> Self:
        """Return the loops of a network; where the device records steps, they are recorded here.

        `overlap`: None where the device works beside the host.
        """
        limits, capture = options.scheduler, backend.hooks.capture_steps
        counts = TokenCounts(
            max_sequences=limits.max_batch_size, vocab=spec.decoder.vocab, device=backend.device
        )
        recorded: ChoosingNetwork | None = None
        if capture is not None:
            with phases.of("graphs"):
                recorded = capture(
                    network,
                    kv,
                    limits=limits,
                    session_len=plan.session_len,
                    device=backend.device,
                    dtype=backend.dtype,
                    ops=backend.ops,
                    counts=counts,
                    tp=backend.group.size,
                )
        return cls(
            network=network,
            recorded=recorded,
            counts=counts,
            spec=spec,
            kv=kv,
            backend=backend,
            options=options,
            plan=plan,
            grammars=grammars,
            overlap=backend.device.type != "cpu" if overlap is None else overlap,
        )

    def serving(self, phases: StartPhases) -> EngineLoop:
        """Return the loop that serves; on a device the first requests have run, and told what a step takes.

        Raises DeviceError where one of them fails.
        """
        if self.backend.device.type == "cpu":
            return self._empty(ALONE)
        with phases.of("first_requests"):
            first = self._empty(ALONE)
            run_first_requests(first, longest_prompt=self._longest_prompt())
            prices = _prices(first, self.backend)
        return self._empty(prices)

    def _empty(self, prices: StepPrices) -> EngineLoop:
        """Return a loop with nothing in it."""
        limits, kv = self.options.scheduler, self.options.kv
        scheduler = Scheduler(
            limits,
            num_pages=self.plan.num_pages,
            page_tokens=kv.page_tokens,
            prefix_caching=kv.prefix_caching,
            prices=prices,
        )
        runner = Runner(
            self.recorded or self.network,
            self.kv,
            device=self.backend.device,
            max_batch_size=limits.max_batch_size,
            vision=self.options.vision,
            recorded=self.recorded,
            counts=self.counts,
        )
        return EngineLoop(
            scheduler,
            runner,
            self.spec,
            num_pages=self.plan.num_pages,
            session_len=self.plan.session_len,
            is_alone=self.options.tp == 1,
            grammars=self.grammars,
            overlap=self.overlap,
        )

    def _longest_prompt(self) -> int:
        """Return the most tokens that fill one step and leave room for new ones."""
        most = min(self.options.scheduler.max_prefill_token_num, self.plan.session_len - NEW_TOKENS)
        return max(1, most)


def _prices(loop: EngineLoop, backend: Backend) -> StepPrices:
    """Return what ranks agree on: how long the steps took in which a sequence decoded alone."""
    decode = next(one for one in loop.stats().phases if one.phase == "decode")
    step_ns = round(decode.seconds / max(decode.steps, 1) * 1e9)
    return StepPrices(step_us=max(backend.group.least(step_ns, backend.device), 1) / 1e3)
