"""The batch sizes whose decode steps are captured as graphs. Torch-free: the planner counts them too."""

# Every size up to 2, then steps that waste at most a quarter of the rows: one graph holds about 2 MB.
_STEPS = ((2, 1), (8, 2), (32, 8), (128, 16), (1 << 30, 32))


def ladder(max_batch_size: int) -> list[int]:
    """Return the batch sizes that are captured, the last one exactly `max_batch_size`."""
    sizes = []
    size = 1
    while size < max_batch_size:
        sizes.append(size)
        size += next(step for limit, step in _STEPS if size < limit)
    return [*sizes, max_batch_size]
