"""The memory through which ranks of one host give each other numbers: its sizes. Torch-free: plans count it.

A rank has a box for blocks of any tensor (`kernels/sum_ranks.cu`) and slots for few rows
(`kernels/sum_ranks_norm.cu`), behind each other.
"""

BLOCK_BYTES = 4096
# Each rank gives all others what it has: quicker up to here than rings, which give less and meet more often.
MOST_BYTES_GIVEN = 8 << 20
# Rows times the ranks that each is given to: what is given twice over takes longer than the way that it saves
# from about here on.
MOST_ROWS_GIVEN = 64
MOST_ROW_BYTES = 16384
SLOT_BYTES = 2 * MOST_ROW_BYTES


def most_blocks(size: int) -> int:
    """Return how many blocks of 4 KB a sum over `size` ranks has at most."""
    return MOST_BYTES_GIVEN // (size - 1) // BLOCK_BYTES


def box_bytes(size: int) -> int:
    """Return the bytes of one rank's box, zero at first."""
    return size * most_blocks(size) * (2 * BLOCK_BYTES + 4)


def most_rows(size: int) -> int:
    """Return how many rows are summed and normed over `size` ranks at once."""
    return max(1, MOST_ROWS_GIVEN // (size - 1))


def slots_bytes(size: int) -> int:
    """Return the bytes of one rank's slots, zero at first."""
    return 2 * size * most_rows(size) * SLOT_BYTES
