"""The answer of `deploy plan`, for tables and for programs alike."""

from dataclasses import dataclass

from deployer.plan.case import Case
from deployer.plan.changes import Change
from deployer.plan.figures import Figures

SCHEMA = 1  # of the JSON form; raised where a key changes its meaning


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A deployment on a device, computed and not measured."""

    model: str
    case: Case
    figures: Figures
    fits: bool
    runs_today: bool  # False: a format is planned that this version refuses
    warnings: list[str]
    changes: list[Change]  # with the largest effect; empty where the deployment does not fit
    ways_to_fit: list[Change]  # empty where it fits

    @property
    def verdict(self) -> str:
        """Whether it fits, and why not, in one line."""
        memory, workload = self.figures.memory, self.figures.workload
        devices = f"{self.case.tp} x {self.case.hardware.name}"
        if self.fits:
            at_once = self.figures.at_limit.batch
            return f"fits on {devices}: {at_once} requests of {workload.total_tokens:,} tokens at once"
        if memory.refusal is None:
            return (
                f"does not fit on {devices}: the priced request has {workload.total_tokens:,} tokens, a "
                f"sequence takes {memory.session_len:,}; price a shorter one with plan.prompt_tokens, "
                "plan.images or plan.output_tokens"
            )
        return f"does not fit on {devices}: {memory.refusal}"
