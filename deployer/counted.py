"""How many there are of something, in a sentence."""


def counted(count: int, name: str) -> str:
    """Return the number and its noun: `1 image`, `2 images`, `0 images`."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"
