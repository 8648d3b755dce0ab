"""What to sweep for, as `conf/sweep/*.yaml` says it."""

from dataclasses import dataclass
from typing import Literal

from deployer.config.ranges import ABOVE_ZERO, NOT_NEGATIVE, POSITIVE, range_faults
from deployer.config.suggest import way_out
from deployer.errors import ConfigError
from deployer.sweeps.figures import DIRECTIONS


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepOptions:
    """How points are chosen, where they run, and what makes one better than another."""

    kind: Literal["grid", "optuna"]
    folder: str
    name: str | None  # None: the model and the time
    objectives: list[str]  # names of `figures.DIRECTIONS`
    questions: int | None  # None: no accuracy
    devices: list[int] | None  # None: all that are visible
    timeout_s: float
    trials: int | None  # of a search
    seed: int | None


def as_words(options: SweepOptions) -> list[str]:
    """Return the words of a command that choose the same points and weigh them by the same figures."""
    told = {"trials": options.trials, "seed": options.seed, "questions": options.questions}
    return [
        f"sweep={options.kind}",
        f"sweep.objectives=[{','.join(options.objectives)}]",
        *(f"sweep.{name}={value}" for name, value in told.items() if value is not None),
    ]


def check_options(options: SweepOptions) -> None:
    """Raise ConfigError with every value that can't be swept with."""
    allowed = {"questions": POSITIVE, "timeout_s": ABOVE_ZERO, "trials": POSITIVE, "seed": NOT_NEGATIVE}
    faults = range_faults("sweep", options, allowed)
    for name in options.objectives:
        if name not in DIRECTIONS:
            faults.append(
                f"sweep.objectives={options.objectives}: {way_out(name, DIRECTIONS, kind='figures')}"
            )
    if not options.objectives or len(set(options.objectives)) != len(options.objectives):
        faults.append(f"sweep.objectives={options.objectives}: must name at least one figure, each once")
    if "accuracy" in options.objectives and options.questions is None:
        faults.append("sweep.objectives names accuracy: set sweep.questions=<how many are asked>")
    for name in ("trials", "seed"):
        given = getattr(options, name)
        if options.kind == "grid" and given is not None:
            faults.append(f"sweep.{name}={given}: a grid has no use for it; choose sweep=optuna")
        if options.kind == "optuna" and given is None:
            faults.append(f"sweep.{name}=null: a search needs one; set sweep.{name}=<number>")
    if isinstance(options.devices, list) and (
        not options.devices or min(options.devices) < 0 or len(set(options.devices)) != len(options.devices)
    ):
        faults.append(f"sweep.devices={options.devices}: must list GPUs by number, each once, as [0, 1]")
    if options.name is not None and (not options.name or "/" in options.name):
        faults.append(f"sweep.name={options.name!r}: is a folder's name; its place is sweep.folder")
    if faults:
        raise ConfigError(faults)
