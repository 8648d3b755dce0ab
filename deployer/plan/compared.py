"""Figures of a plan beside those that an engine gave: what `deploy plan --against` prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from deployer.plan.plan import Plan
from deployer.table import print_table

# Rows of the plan's workspace that the engine does not count as its own.
_NOT_THE_ENGINES = ("runtime", "communicator", "left to others", "CUDA graphs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One figure, planned and measured."""

    name: str
    unit: str
    planned: float | None  # None: the plan has none, as of a device without measured shares
    measured: float | None  # None: nothing was answered yet, or the engine does not measure it there

    @property
    def difference(self) -> float | None:
        """The measured figure's distance from the planned one, as a share of it."""
        if not self.planned or self.measured is None:
            return None
        return self.measured / self.planned - 1


def compared_bytes(plan: Plan, engine: Mapping[str, Any]) -> list[Compared]:
    """Return what memory was planned, and what an engine reported at its start (`engines.messages.Ready`)."""
    memory = plan.figures.memory
    real: Mapping[str, int] = engine["bytes_by_part"]
    workspace = sum(
        row.num_bytes for row in memory.rows if row.group == "workspace" and row.name not in _NOT_THE_ENGINES
    )
    held = engine["num_pages"] * engine["page_tokens"]
    table: list[tuple[str, str, float, float | None]] = [
        ("weights", "bytes", memory.bytes_of("weights"), real.get("weights")),
        ("workspace of the largest step", "bytes", workspace, real.get("workspace") or None),
        ("KV pages", "bytes", memory.bytes_of("kv_cache"), real.get("kv_cache")),
        ("one KV page", "bytes", memory.page_bytes, engine["page_bytes"]),
        ("tokens that the pages hold", "tokens", memory.kv_tokens, held),
        ("longest sequence", "tokens", memory.session_len, engine["session_len"]),
    ]
    return [Compared(name=name, unit=unit, planned=p, measured=m) for name, unit, p, m in table]


def print_compared(rows: Sequence[Compared], *, out: TextIO) -> None:
    """Print one line a figure."""
    cells = [[row.name, row.unit, _shown(row.planned), _shown(row.measured), _share(row)] for row in rows]
    print_table(["figure", "unit", "planned", "measured", "measured - planned"], cells, out=out)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.2f}"


def _share(row: Compared) -> str:
    if row.difference is None:
        return "-"
    return f"{row.difference:+.1%}" if row.difference < 2 else f"{row.difference + 1:,.0f}x"
