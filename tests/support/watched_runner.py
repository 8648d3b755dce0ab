"""A runner that notes what it is asked for, and fails where it is told to."""

from typing import Any

from loop_engine import LoopEngine

from engines.schedule.batch_plan import BatchPlan
from engines.steps.launched import Launched, TokenChoice
from engines.steps.runner import Runner


class WatchedRunner(Runner):
    """Counts calls from 1; `choose` is one where something is left to choose."""

    calls: list[str]
    failing_fetch: int | None
    failing_choose: int | None

    @classmethod
    def of(cls, engine: LoopEngine) -> "WatchedRunner":
        """The engine's own runner, watched from now on."""
        runner: Any = engine.loop._runner
        runner.__class__ = cls
        runner.calls, runner.failing_fetch, runner.failing_choose = [], None, None
        assert isinstance(runner, cls)
        return runner

    def launch(self, plan: BatchPlan) -> Launched:
        self.calls.append("launch")
        return super().launch(plan)

    def choose(self, launched: Launched) -> Launched:
        if launched.logits_SV is not None:
            self.calls.append("choose")
            if self.failing_choose == self.calls.count("choose"):
                raise RuntimeError("this choice was told to be lost")
        return super().choose(launched)

    def fetch(self, launched: Launched) -> list[TokenChoice]:
        self.calls.append("fetch")
        if self.failing_fetch == self.calls.count("fetch"):
            raise RuntimeError("this result was told to be lost")
        return super().fetch(launched)
