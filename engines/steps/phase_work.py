"""What the steps of an engine had to do, by phase: the counts from which a device's limit follows. Ints only.

Steps without prompt tokens are `decode`, all others `prefill`; decoding rows of a mixed step count there.
"""

from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass, field

from engines.schedule.batch_plan import BatchPlan, Chunk
from engines.stats import PhaseFigures


@dataclass(slots=True)
class PhaseWork:
    """The work of one phase since the start."""

    steps: int = 0
    rows: int = 0
    sampled: int = 0
    keys: int = 0
    pairs: int = 0

    def add(self, plan: BatchPlan, *, window: int | None) -> None:
        """Count a step; no query sees more than `window` keys."""
        self.steps += 1
        self.sampled += len(plan.sampled) + sum([chunk.num_scored for chunk in plan.scoring])
        decodes = plan.chunks[: plan.num_decodes]
        # One query each; a list and its sum, as this runs for every row of every step.
        seen = sum([chunk.start for chunk in decodes]) + len(decodes)
        if window is not None:
            seen = sum([min(chunk.start + 1, window) for chunk in decodes])
        self.rows += len(decodes)
        self.keys += seen - self._read_before(decodes, window=window) if plan.num_proposed else seen
        self.pairs += seen
        for chunk in plan.chunks[plan.num_decodes :]:
            num = chunk.num_tokens
            self.rows += num
            self.keys += chunk.end if window is None else min(chunk.end, window + num - 1)
            # A query sees what lies before it and itself, up to the window.
            free = num if window is None else min(max(window - chunk.start, 0), num)
            self.pairs += free * chunk.start + free * (free + 1) // 2 + (num - free) * (window or 0)

    @staticmethod
    def _read_before(decodes: Seq[Chunk], *, window: int | None) -> int:
        """Return the keys that proposed tokens see as the row before them does, of the same sequence."""
        starts = [chunk.start for chunk in decodes if chunk.proposed is not None]
        return sum(starts) if window is None else sum([min(start, window - 1) for start in starts])


@dataclass(slots=True)
class WorkByPhase:
    """The work of all steps of one engine."""

    window: int | None  # of the decoder's attention; None: all keys
    prefill: PhaseWork = field(default_factory=PhaseWork)
    decode: PhaseWork = field(default_factory=PhaseWork)

    def add(self, plan: BatchPlan) -> None:
        """Count a step."""
        phase = self.decode if plan.num_decodes == len(plan.chunks) else self.prefill
        phase.add(plan, window=self.window)

    def figures(self, *, prefill_s: float, decode_s: float) -> tuple[PhaseFigures, ...]:
        """Return both, with the time that the device spent on them."""
        return (
            PhaseFigures(phase="prefill", seconds=prefill_s, **asdict(self.prefill)),
            PhaseFigures(phase="decode", seconds=decode_s, **asdict(self.decode)),
        )
