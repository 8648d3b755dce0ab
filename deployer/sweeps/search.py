"""A search with Optuna: it proposes points, learns from what they came to, and keeps both in the folder.

Optuna is asked and told; it runs nothing itself. The study is a journal of JSON lines, so a search that was
killed goes on where it was. What the plan rules out is told as pruned, and never ran.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deployer.errors import UnavailableError
from deployer.sweeps.figures import DIRECTIONS
from deployer.sweeps.options import SweepOptions
from deployer.sweeps.point import Point, Result
from deployer.sweeps.space import Axis, Space

if TYPE_CHECKING:
    from optuna import Study, Trial

JOURNAL = "study.journal"
STUDY = "sweep"


class Search:
    """Trial n of the study is point n + 1 of the run."""

    def __init__(
        self, space: Space, settled: Mapping[int, Result], options: SweepOptions, folder: Path
    ) -> None:
        """Open or make the study. Raises UnavailableError without Optuna."""
        assert options.trials is not None, "check_options saw to it"
        self._space = space
        self._study = _open_study(options, folder)
        _end_the_killed(self._study, settled, options)
        self._objectives = options.objectives
        self._left = options.trials - len(settled)
        self.total = options.trials

    def next(self) -> Point | None:
        """Ask for a point; None once as many as `sweep.trials` were asked for."""
        if self._left <= 0:
            return None
        self._left -= 1
        trial = self._study.ask()
        words = tuple(f"{axis.key}={_suggested(trial, axis)}" for axis in self._space.axes)
        return Point(number=trial.number + 1, words=words)

    def tell(self, result: Result) -> None:
        """Tell the study what a point came to."""
        _tell(self._study, result, self._objectives)


def _open_study(options: SweepOptions, folder: Path) -> "Study":
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise UnavailableError(
            "sweep=optuna: needs Optuna, which is not installed; pip install 'vlm-deployer[sweep]'"
        ) from error
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    assert options.seed is not None, "check_options saw to it"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    study = optuna.create_study(
        storage=storage,
        study_name=STUDY,
        directions=[DIRECTIONS[name] for name in options.objectives],
        load_if_exists=True,
    )
    # The sampler's draws are not part of the journal: resumed with the same seed it would repeat them.
    study.sampler = optuna.samplers.TPESampler(seed=options.seed + len(study.trials))
    return study


def _end_the_killed(study: "Study", settled: Mapping[int, Result], options: SweepOptions) -> None:
    """End the trials that were asked for and never told: their process was killed."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        result = settled.get(trial.number + 1)
        if result is None:
            study.tell(trial.number, state=TrialState.FAIL)
        else:
            _tell(study, result, options.objectives)


def _tell(study: "Study", result: Result, objectives: list[str]) -> None:
    from optuna.trial import TrialState

    number = result.number - 1
    if result.status == "done":
        study.tell(number, [result.figures[name] for name in objectives])
    else:
        study.tell(number, state=TrialState.PRUNED if result.status == "pruned" else TrialState.FAIL)


def _suggested(trial: "Trial", axis: Axis) -> str:
    if axis.interval is None:
        return trial.suggest_categorical(axis.key, axis.values)
    low, high, is_log = axis.interval.low, axis.interval.high, axis.interval.is_log
    if axis.interval.is_int:
        return str(trial.suggest_int(axis.key, int(low), int(high), log=is_log))
    return f"{trial.suggest_float(axis.key, low, high, log=is_log):.6g}"
