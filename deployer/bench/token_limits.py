"""What no engine can pass on the device that a benchmark ran on: the planner's limits, for a row of it.

The same arithmetic at the rates that are expected of a device is what `deploy plan --against` compares."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from deployer.bench.token_samples import TokenRow
from deployer.config.schema import DeployConfig
from deployer.plan.case import Case, case_of
from deployer.plan.decoder_work import DecoderWork, decoder_work
from deployer.plan.hardware import Hardware, is_named
from deployer.plan.rates import Rates, limit
from deployer.plan.step_times import decode_time, encode_time, prefill_time
from deployer.plan.weight_bytes import WeightPart, weight_parts
from engines.spec import ModelSpec

READ_AT_ONCE = 8192  # tokens of a step that is bound by arithmetic alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits of one deployment."""

    case: Case
    parts: list[WeightPart]
    work: DecoderWork
    rates: Rates

    @classmethod
    def of(cls, config: DeployConfig, spec: ModelSpec, hardware: Hardware) -> "Limits":
        """Return the limits of a deployment on a device."""
        return cls.of_case(case_of(config, spec, hardware))

    @classmethod
    def of_case(cls, case: Case, rates: Rates | None = None) -> "Limits":
        """Return the limits of a case, or what other rates make of it."""
        parts = weight_parts(case)
        return cls(case=case, parts=parts, work=decoder_work(case, parts), rates=rates or limit(case))

    def ttft_ms(self, row: TokenRow, size: tuple[int, int] | None) -> float:
        """Return the time to the first token of a request alone."""
        return (self._encode_s(size) + self._read_s(row)) * 1e3

    def prompt_tokens_per_s(self, row: TokenRow, size: tuple[int, int] | None) -> float:
        """Return the rate at which prompts of the mean length are read."""
        read_s = self._read_s(row, together=row.concurrency) / row.concurrency
        return row.prompt_tokens / (self._encode_s(size) + read_s)

    def decode_tokens_per_s(self, row: TokenRow) -> float:
        """Return the rate of a full batch, each sequence halfway through its answer."""
        return row.concurrency / self._step_s(row)

    def requests_per_s(self, row: TokenRow, size: tuple[int, int] | None) -> float:
        """Return the rate at which every phase keeps the device busy, all requests of the mean length."""
        decode_s = row.output_tokens * self._step_s(row) / row.concurrency
        read_s = self._read_s(row, together=row.concurrency) / row.concurrency
        return 1 / (self._encode_s(size) + read_s + decode_s)

    def burst_s(self, sequences: Sequence[tuple[int, int]], *, in_flight: int) -> float:
        """Return the time in which texts of so many prompt and output tokens are answered, so many at once.

        Prompts are read at the rate of a full step; between two ends the batch decodes at its own limit, so
        the last and longest answers count with the small batches that they decode in.
        """
        full = prefill_time(self.case, self.work, self.rates, tokens=READ_AT_ONCE)
        token_s = (full.total_s - full.attention_s) / READ_AT_ONCE
        waiting, running, total_s = deque(sequences), list[list[int]](), 0.0
        while waiting or running:
            while waiting and len(running) < in_flight:
                prompt, output = waiting.popleft()
                total_s += token_s * prompt
                running.append([prompt, output])
            steps = min(left for _, left in running)
            context = sum(held for held, _ in running) / len(running) + steps / 2
            step = decode_time(self.case, self.work, self.rates, batch=len(running), context=round(context))
            total_s += steps * step.total_s
            running = [[held + steps, left - steps] for held, left in running if left > steps]
        return total_s

    def _read_s(self, row: TokenRow, *, together: int = 1) -> float:
        tokens = round(row.prompt_tokens)
        return prefill_time(self.case, self.work, self.rates, tokens=tokens, prompts=together).total_s

    def _step_s(self, row: TokenRow) -> float:
        context = round(row.prompt_tokens + row.output_tokens / 2)
        return decode_time(self.case, self.work, self.rates, batch=row.concurrency, context=context).total_s

    def _encode_s(self, size: tuple[int, int] | None) -> float:
        if size is None or self.case.spec.vision is None:
            return 0.0
        plan = self.case.spec.vision.pixels.plan(*size, num_images=1)
        return encode_time(self.case, self.parts, self.rates, tiles=plan.num_tiles, plan=plan)


def is_that_device(hardware: Hardware, device: str) -> bool:
    """Tell whether a device as torch names it is of the kind that `conf/hardware` describes."""
    if hardware.kind == "cpu":
        return device.startswith("cpu")
    return is_named(hardware, device)
