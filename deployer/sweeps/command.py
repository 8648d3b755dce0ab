"""`deploy sweep <sub-verb>`, and `deploy -m bench ...`, which is `deploy sweep run ...`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from deployer.errors import UsageError
from deployer.sub_verbs import SubVerb, run_sub_verb
from deployer.typed_path import typed_path

SUB_VERBS: Mapping[str, SubVerb] = {
    "run": SubVerb(
        words="+model=x key=a,b ... [sweep=optuna]",
        summary="measure every point, print the trade-off; also `deploy -m bench ...`",
        run="deployer.sweeps.run:run",
    ),
    "resume": SubVerb(
        words="RUN [failed=true]",
        summary="measure the points that are left; failed=true: those that failed as well",
        run="deployer.sweeps.run:resume",
    ),
    "show": SubVerb(
        words="RUN",
        summary="print the points, and write tables and pictures anew",
        run="deployer.sweeps.run:show",
    ),
    "promote": SubVerb(
        words="RUN point=3 [as=NAME] [overwrite=true]",
        summary="write a point as a recipe with its figures, and lock it",
        run="deployer.sweeps.promote:run",
    ),
}


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Run one sub-verb."""
    return run_sub_verb("sweep", words, config_dirs)


def one_run(names: Sequence[str], *, verb: str) -> Path:
    """Return the folder that a command names. Raises UsageError."""
    if len(names) != 1:
        raise UsageError(f"`deploy {verb}` takes one run's folder, and got {len(names)}")
    return typed_path(names[0])
