"""How far a sweep is: a bar on a terminal, and one line a settled point anywhere."""

from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from deployer.sweeps.figures import LABELS
from deployer.sweeps.point import Point, Result
from deployer.sweeps.table import number
from deployer.table import wants_colour

SHOWN = ("tokens_per_s", "ttft_p99_ms", "token_p99_ms", "memory_bytes", "accuracy")


class Progress:
    """Open while a sweep runs."""

    def __init__(self, *, total: int, settled: int, out: TextIO) -> None:
        """`settled`: points that an earlier process did."""
        self._console = Console(file=out, highlight=False, soft_wrap=True, no_color=not wants_colour(out))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Bar(*columns, console=self._console, disable=not out.isatty(), transient=True)
        self._task = self._bar.add_task("sweep", total=total, completed=settled)
        self._total, self._settled = total, settled
        if settled:
            self._say(f"{settled} of {total} points are settled already")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begins(self, point: Point) -> None:
        """Show which point runs."""
        self._bar.update(self._task, description=f"{point.number}: {' '.join(point.words)}")

    def settled(self, result: Result) -> None:
        """Count a point and say what it came to."""
        self._settled += 1
        self._bar.update(self._task, completed=self._settled)
        words = " ".join(result.words)
        self._say(f"[{self._settled}/{self._total}] {result.number}: {words}: {_outcome(result)}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)


def _outcome(result: Result) -> str:
    if result.same_as is not None:
        return f"the same as point {result.same_as}"
    if result.status != "done":
        assert result.reason is not None, "what is not done says why"
        return f"{result.status}: {result.reason.splitlines()[0]}"
    figures = {name: result.figures[name] for name in SHOWN if name in result.figures}
    told = [f"{LABELS[name][0]} {number(name, value)}" for name, value in figures.items()]
    return ", ".join(told) + f" ({result.seconds:.0f} s)"
