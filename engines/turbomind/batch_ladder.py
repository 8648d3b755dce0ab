"""The batch sizes whose decode steps are captured as graphs. Torch-free: the planner counts them too.

A batch is filled up to the next size. What a row that fills up costs is a row in every product, and products
take 8 rows at once up to 64 rows and stream weights there whatever their rows; above 128 rows they are bound
by arithmetic, and less than an eighth of it is wasted. One graph holds its logits and about 2 MB, and takes
some 20 ms to capture.
"""

from engines.options import SchedulerOptions

# Sizes below this one are this far apart.
_STEPS = ((2, 1), (8, 2), (64, 8), (256, 16), (1 << 30, 32))


def ladder(max_batch_size: int) -> list[int]:
    """Return the batch sizes that are captured, the last one exactly `max_batch_size`."""
    sizes = []
    size = 1
    while size < max_batch_size:
        sizes.append(size)
        size += next(step for limit, step in _STEPS if size < limit)
    return [*sizes, max_batch_size]


def proposing_ladder(limits: SchedulerOptions) -> list[int]:
    """Return those of the sizes that steps with proposed tokens take; they are captured a second time."""
    if limits.speculation is None:
        return []
    most = limits.speculation.most_rows(limits.max_batch_size)
    sizes = [size for size in ladder(limits.max_batch_size) if size > 1]
    return sizes[: 1 + sum(size < most for size in sizes)]
