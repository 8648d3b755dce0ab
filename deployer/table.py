"""The one way to print a table: columns of plain text, as wide as what they hold; colour on terminals."""

import os
from collections.abc import Mapping, Sequence
from typing import TextIO

_BOLD, _DIM, _RED, _YELLOW, _END = "\033[1m", "\033[2m", "\033[31m", "\033[33m", "\033[0m"
STYLES = {"bold": _BOLD, "dim": _DIM, "red": _RED, "yellow": _YELLOW}


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, out: TextIO) -> None:
    """Print rows under their heads; columns of numbers are set flush right."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(heads))]
    print(paint(_line(heads, widths, right), "bold", out=out), file=out)
    for row in rows:
        print(_line(row, widths, right), file=out)


def print_about(about: Mapping[str, str], *, out: TextIO) -> None:
    """Print what stands above a table of measurements, a name and its value a line, and an empty line."""
    width = max(len(name) for name in about)
    for name, value in about.items():
        print(f"{name:{width}}  {value}", file=out)
    print(file=out)


def paint(text: str, style: str, *, out: TextIO) -> str:
    """Return the text in a style of `STYLES` where `out` is a terminal that wants colour."""
    return f"{STYLES[style]}{text}{_END}" if text and wants_colour(out) else text


def wants_colour(out: TextIO) -> bool:
    """Tell whether escape codes are welcome: a terminal, without NO_COLOR and not a dumb one."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if flush else cell.ljust(width)
        for cell, width, flush in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _is_number(cell: str) -> bool:
    return cell in ("", "-") or cell.replace(".", "", 1).replace(",", "").lstrip("-+").rstrip("%x").isdigit()
