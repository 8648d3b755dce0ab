"""Did-you-mean, one way for keys, options and choices."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MOST_SHOWN = 40  # names; a longer list is no help on a terminal
# what a choice is called elsewhere
_OTHER_NAMES = {
    "gpu": "cuda",
    "bf16": "bfloat16",
    "fp16": "float16",
    "half": "float16",
    "fp32": "float32",
    "smooth_quant": "int8",
    "8": "int8",
    "4": "int4",
}


def near(word: str, known: Iterable[str], *, limit: int = 3) -> list[str]:
    """Return the known names closest to `word`, the nearest first; one that contains it counts as close.

    Where one differs in capitals or hyphens alone, it is meant, and no other is told.
    """
    names = sorted(set(known))
    if _OTHER_NAMES.get(word) in names:
        return [_OTHER_NAMES[word]]
    if same := [name for name in names if _letters(name) == _letters(word)]:
        return same[:limit]
    cutoff = 0.6 if len(word) > 3 else 0.5  # one letter of two is as far as two of five
    found = get_close_matches(word, names, n=limit, cutoff=cutoff)
    found += [name for name in names if word and word in name and name not in found]
    return found[:limit]


def _letters(word: str) -> str:
    """Return a word without what people write one way or another: capitals, hyphens for underscores."""
    return word.lower().replace("-", "_")


def quoted(names: Iterable[str]) -> str:
    """Return the names in backticks, separated by commas."""
    return ", ".join(f"`{name}`" for name in names)


def any_of(words: Sequence[str]) -> str:
    """Return the words as a choice: a, b or c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def way_out(word: str, known: Iterable[str], *, kind: str, prefix: str = "", listed_by: str = "") -> str:
    """Return the tail of a message about an unknown name: what is near it, or else all that is known.

    `prefix` goes before each name that is shown, and does not count for nearness. `listed_by` is a command
    that shows all, for names that are too many for a line.
    """
    names = sorted(set(known))
    close = near(word, names)
    if not names:
        return f"there are no {kind}"
    if listed_by and not close and len(names) > MOST_SHOWN:
        return f"none is near it; `{listed_by}` lists all {len(names)} {kind}"
    shown = quoted(f"{prefix}{name}" for name in close or names)
    return f"{'nearest' if close else 'known'} {kind}: {shown}"
