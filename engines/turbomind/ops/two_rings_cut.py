"""What cuts of the kernels on `kernels/device/two_rings.cuh` have in common: pure arithmetic on sizes."""

from dataclasses import dataclass

from engines.turbomind.gpu import Constants

ROWS = (8, 16, 32, 64, 128)  # of x, as the kernels are compiled for
GROUP_OUTPUTS = 64  # of a warpgroup


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
