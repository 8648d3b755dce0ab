"""An engine with random layers that lean to JSON, started once, and loops over it that propose unlike much.

The loops have the same network, pages and recordings, so a start is paid for once and what differs between
them is what they propose. One of them runs at a time; none finds what another left in the pages.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from extraction import FORMS, Writer, lean
from sequences import sampling

from deployer.config.devices import choose_engine
from deployer.config.engine_options import engine_options
from deployer.config.schema import DeployConfig
from deployer.generation.open_model import sized_model
from deployer.generation.response_format import grammar_of
from deployer.generation.weight_format import with_weights
from engines.loading import load_engine
from engines.messages import Abort, Delta, Done, Flush, Ready, Start, Submit
from engines.network_loaders import load_random
from engines.options import EngineOptions
from engines.sampling.grammar import Grammars
from engines.schedule.grammar_pace import ALONE, StepPrices
from engines.schedule.scheduler import Scheduler
from engines.stats import Stats
from engines.steps.engine_loop import EngineLoop

PROMPT = 300  # tokens
NEW_TOKENS = 600  # of an answer at most
FREE_TOKENS = 160  # of an answer without a form, as long as one with
TEMPERATURE = 0.7
GRAMMARS = [
    grammar
    for form in FORMS.values()
    if (grammar := grammar_of({"type": "json_schema", "json_schema": {"schema": form}})) is not None
]


@dataclass(frozen=True, slots=True)
class Took:
    """What some tokens took."""

    num_tokens: int
    seconds: float
    before: Stats
    after: Stats

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.num_tokens / self.seconds

    def __str__(self) -> str:
        """Return it, and for a step: ms, ms that the device waited, tokens, and those proposed."""
        first, last = self.before, self.after
        steps = last.steps - first.steps
        proposed = last.proposed_tokens - first.proposed_tokens
        right = (last.accepted_tokens - first.accepted_tokens) / max(proposed, 1)
        return (
            f"{self.rate:7.1f} tokens a second; {steps} steps, each of {self.seconds / steps * 1e3:.2f} ms, "
            f"waits {(last.gap_s - first.gap_s) / steps * 1e3:.2f}, {self.num_tokens / steps:.1f} tokens, "
            f"{proposed / steps:.1f} proposed, of which {right:.0%} right"
        )


class LeaningLoop:
    """A loop, and how it is asked."""

    def __init__(self, loop: EngineLoop, ready: Ready, *, end_id: int, name: str) -> None:
        self.loop = loop
        self.name = name
        self._end_id = end_id
        # A CPU may have other work.
        self._clock = time.process_time if ready.device.startswith("cpu") else time.perf_counter

    def answers(self, *, at_once: int, num: int) -> dict[str, list[int]]:
        """Return `num` whole answers in a form, by request, made so many at once; each ends with its end."""
        found: dict[str, list[int]] = {}
        for name, tokens in self._asked(at_once, held=at_once, num=num):
            found.setdefault(name, []).extend(tokens)
        return found

    def took(self, *, at_once: int, held: int, tokens_each: int) -> Took:
        """Measure so many tokens a sequence while `at_once` answer, `held` of them in a form.

        It begins once all have read their prompts; who ends is followed by the next, prompt included.
        """
        replies = self._asked(at_once, held=held, num=None)
        for _ in replies:
            running, waiting = self.loop._scheduler.running, self.loop.counts[1]
            if not waiting and all(one.is_decoding for one in running):
                break
        before, started = self.loop.stats(), self._clock()
        num_tokens = 0
        for _, tokens in replies:
            num_tokens += len(tokens)
            if num_tokens >= at_once * tokens_each:
                break
        found = Took(num_tokens, self._clock() - started, before, self.loop.stats())
        for one in self.loop._scheduler.running:
            self.loop.abort(Abort(request_id=one.request_id))
        while self.loop.has_work:
            self.loop.step()
        return found

    def _asked(self, at_once: int, *, held: int, num: int | None) -> Iterator[tuple[str, list[int]]]:
        """Keep so many going, up to `num` or without an end; yield tokens as they come, by request."""
        self.loop.take(Flush())
        asked = whole = 0
        while self.loop.has_work or asked == 0:
            while (num is None or asked < num) and asked - whole < at_once:
                request = request_of(asked, self._end_id, is_held=asked % at_once < held)
                assert self.loop.submit(request) == []
                asked += 1
            for reply in self.loop.step():
                if isinstance(reply, Delta):
                    yield reply.request_id, list(reply.token_ids)
                    continue
                assert isinstance(reply, Done), reply
                whole += 1
                yield reply.request_id, [self._end_id] if reply.finish_reason == "stop" else []


def leaning_loops(
    config: DeployConfig, writer: Writer, names: Sequence[str]
) -> tuple[list[LeaningLoop], Ready, StepPrices]:
    """Start an engine; return a loop for each name, and the prices that it found of steps with proposals.

    A name is the number of tokens that grammars propose at most; with `free` behind it they are asked at any
    price.
    """
    choice = choose_engine(config.engine)
    model = with_weights(config, sized_model(config.model, tower=config.vision.name))
    spec = replace(model.spec, vision=None)

    def load(folder: Path, spec: Any, backend: Any) -> Any:
        network = load_random(folder, spec, backend)
        lean(network, writer.pairs, backend.device, backend.dtype)
        return network

    def options(tokens: int) -> EngineOptions:
        engine = replace(config.engine, speculative_grammar_tokens=tokens)
        return engine_options(replace(config, engine=engine), choice)

    most = [int(name.removesuffix("free")) for name in names]
    start = Start(folder="nowhere", spec=spec, options=options(max(most)), vocabulary=writer.vocabulary)
    first, ready = load_engine(start, on_phase=lambda _: None, load=load)
    first.rest()
    found = first._scheduler.speculation._pace._prices
    loops: list[LeaningLoop] = []
    for name, tokens in zip(names, most, strict=True):
        loop = _beside(first, ready, options(tokens), ALONE if name.endswith("free") else found)
        loops.append(LeaningLoop(loop, ready, end_id=writer.end_id, name=name))
    return loops, ready, found


def _beside(first: EngineLoop, ready: Ready, options: EngineOptions, prices: StepPrices) -> EngineLoop:
    """Return a loop over the network and the pages of another one."""
    limits, vocab = options.scheduler, first._spec.decoder.vocab
    proposes = limits.speculation is not None and limits.speculation.grammar_tokens > 0
    grammars = Grammars(first.grammars._vocabulary, vocab=vocab, proposes=proposes)
    grammars._trie = first.grammars._trie  # of a vocabulary, and made once
    scheduler = Scheduler(
        limits,
        num_pages=ready.num_pages,
        page_tokens=ready.page_tokens,
        prefix_caching=options.kv.prefix_caching,
        prices=prices,
    )
    return EngineLoop(
        scheduler,
        first._runner,
        first._spec,
        num_pages=ready.num_pages,
        session_len=ready.session_len,
        overlap=first._overlap,
        grammars=grammars,
    )


def request_of(number: int, end_id: int, *, is_held: bool) -> Submit:
    """Return a request, which follows a form or not."""
    how = sampling(
        max_new_tokens=NEW_TOKENS if is_held else FREE_TOKENS,
        temperature=TEMPERATURE,
        seed=number,
        eos_token_ids=(end_id,),
        ignore_eos=not is_held,
        grammar=GRAMMARS[number % len(GRAMMARS)] if is_held else None,
    )
    prompt = tuple((7 * number + place) % 256 for place in range(PROMPT))
    return Submit(request_id=f"request-{number}", token_ids=prompt, images=(), sampling=how, priority=0)
