"""Words of `deploy` that tests share, with those of one test in the place of the same keys."""

from collections.abc import Sequence


def with_own(shared: Sequence[str], own: Sequence[str]) -> list[str]:
    """Return the shared words but for keys that a test's own words give, then these."""
    keys = {_key(word) for word in own}
    return [*(word for word in shared if _key(word) not in keys), *own]


def _key(word: str) -> str:
    return word.lstrip("+").partition("=")[0]
