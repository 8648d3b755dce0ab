"""A text as the grammar of overrides takes it: quoted where it could mean something else."""

import re

_PLAIN = re.compile(r"(?:\.{0,2}/|[A-Za-z_])[\w./-]*")
_NOT_TEXT = frozenset({"true", "false", "null", "nan", "inf"})


def override_text(text: str) -> str:
    """Return what stands behind `key=` so that the key gets exactly this text."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    # A backslash counts only in front of a quote, where it must be doubled.
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    end = re.search(r"\\*$", escaped)
    assert end is not None, "the pattern matches the empty string too"
    return f"'{escaped}{end[0]}'"
