"""What cuts of the kernels on `kernels/device/two_rings.cuh` have in common: pure arithmetic on sizes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from engines.turbomind.gpu import Constants

ROWS = (8, 16, 32, 64, 128)  # of x, as the kernels are compiled for
GROUP_OUTPUTS = 64  # of a warpgroup
X_LINE_BYTES = 256  # of a row, in a stage
MOST_WARPGROUPS = 4  # that unpack and multiply in an SM
_MOST_STAGES = 24
ALIGNMENT = 1024  # of the rings; the launcher's memory may start below
BARRIER_BYTES = 16  # full and empty, a stage
_COPY_REGISTERS = 32  # of a thread of the warpgroup that copies
_OTHER_REGISTERS = 24  # beside sums, and operands and their words of every step that is unpacked at once
_START_REGISTERS = 30  # beside sums, of what a kernel is compiled for


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoRingsCut:
    """Blocks of `groups` x 64 outputs x `rows`, of which `cluster` share the inputs of an output."""

    rows: int
    groups: int
    gated: bool  # half of the groups are gates
    turns: int  # warpgroups that take turns at the slabs of a group
    cluster: int
    code_stages: int
    x_stages: int
    shared_bytes: int

    @property
    def threads(self) -> int:
        """Threads of a block: the warpgroups that multiply and the one that copies."""
        return 128 * (self.groups * self.turns + 1)

    @property
    def width(self) -> int:
        """Outputs that a block and its cluster write."""
        return self.groups * GROUP_OUTPUTS // (2 if self.gated else 1)

    def num_blocks(self, num_rows: int, outputs: int) -> int:
        """Return the size of the grid for so many outputs that are written."""
        return -(-outputs // self.width) * -(-num_rows // self.rows) * self.cluster

    def label(self) -> str:
        """Return groups, turns and cluster, a digit each, then the stages of codes and of x."""
        return f"{self.groups}{self.turns}{self.cluster}/{self.code_stages}+{self.x_stages}"

    def frame(self) -> Constants:
        """Return what `two_rings.cuh` is compiled with."""
        return (
            ("ROWS", self.rows),
            ("GROUPS", self.groups),
            ("GATED", int(self.gated)),
            ("TURNS", self.turns),
            ("CLUSTER", self.cluster),
            ("CODE_STAGES", self.code_stages),
            ("X_STAGES", self.x_stages),
        )


_Cut = TypeVar("_Cut", bound=TwoRingsCut)


class Shape(NamedTuple):
    """How warpgroups of a block, and blocks, are laid over outputs and inputs: fields of a cut."""

    groups: int
    turns: int
    cluster: int


def first_that_fits(make_cut: Callable[..., _Cut | None], shapes: Iterable[Shape]) -> _Cut | None:
    """Return the cut of the first shape that `make_cut` makes one of, None where it makes none."""
    cuts = (make_cut(**shape._asdict()) for shape in shapes)
    return next((cut for cut in cuts if cut is not None), None)


def rows_of_cut(num_rows: int) -> int:
    """Return the fewest rows of a cut that take so many at once, else the most there are."""
    return next((rows for rows in ROWS if rows >= num_rows), ROWS[-1])


class Rings(NamedTuple):
    """The stages of both rings, and what they take of shared memory with all else."""

    code_stages: int
    x_stages: int
    shared_bytes: int


def rings(
    *,
    rows: int,
    slabs: int,
    group_bytes: int,
    groups: int,
    turns: int,
    x_bytes: int,
    shared_bytes: int,
    kept_bytes: int = 0,
) -> Rings | None:
    """Return rings that fill what a block has of shared memory, or None where they are too short.

    `slabs` are those of a block, `group_bytes` the codes of one in a group. The ring of x gives what is kept
    for others: a stage of codes is larger and comes a few at a time.
    """
    room = shared_bytes - ALIGNMENT
    code_stage, x_stage = group_bytes + BARRIER_BYTES, rows * X_LINE_BYTES + BARRIER_BYTES
    most = most_stages(slabs, turns)
    x_stages = max(2, turns, min(most, x_bytes // x_stage)) // turns * turns
    code_stages = min(most * groups, (room - x_stages * x_stage) // code_stage)
    code_stages -= code_stages % (groups * turns)  # a stage is one warpgroup's
    too_many = kept_bytes - (room - x_stages * x_stage - code_stages * code_stage)
    x_stages -= -(-max(0, too_many) // x_stage // turns) * turns
    if code_stages < groups * max(2, turns) or x_stages < 2 or slabs < turns:
        return None
    needed = ring_bytes(
        rows=rows,
        groups=groups,
        turns=turns,
        code_stages=code_stages,
        code_bytes=group_bytes,
        x_stages=x_stages,
    )
    if needed > shared_bytes - kept_bytes:
        return None
    return Rings(code_stages, x_stages, needed)


def most_stages(slabs: int, turns: int) -> int:
    """Return how many stages a ring has use for where a block meets so many slabs."""
    return max(2, min(_MOST_STAGES, slabs)) + turns - 1


def ring_bytes(
    *, rows: int, groups: int, turns: int, code_stages: int, code_bytes: int, x_stages: int
) -> int:
    """Return what both rings take of shared memory: stages or, once they are read, sums in their place."""
    stages = code_stages * code_bytes + x_stages * rows * X_LINE_BYTES
    sums = turns * rows * (GROUP_OUTPUTS * groups + 4) * 4
    return ALIGNMENT + (code_stages + x_stages) * BARRIER_BYTES + max(stages, sums)


def has_registers(rows: int, warpgroups: int, operand_registers: int, *, sums: int = 1) -> bool:
    """Return whether so many `sums` of a thread, its operands and the rest fit; tests ask the compiler."""
    equal = 512 // (warpgroups + 1) // 8 * 8  # what all start with
    own = min(240, (equal * (warpgroups + 1) - _COPY_REGISTERS) // warpgroups // 8 * 8)
    needed = sums * rows // 2 + operand_registers + _OTHER_REGISTERS
    return needed <= own and rows // 2 + _START_REGISTERS <= equal
