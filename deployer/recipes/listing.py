"""`deploy recipe list`: every recipe with a version, what it is for, and whether it was measured."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from deployer.config.recipe_file import read_block, recipe_folders
from deployer.config.suggest import quoted
from deployer.errors import EXIT_OK, UsageError
from deployer.output import take_output
from deployer.recipes.lock_file import lock_path
from deployer.recipes.options import take_words
from deployer.table import print_table

SCHEMA = 1
HEADS = ("recipe", "version", "hardware", "figures", "locked", "what it is")


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Print the table."""
    output, words = take_output(words)
    taken = take_words(words, verb="recipe list", switches={}, texts=("hardware",))
    folders = recipe_folders([*(Path(name) for name in taken.names), *config_dirs])
    rows = [row for folder in folders for row in _rows(folder)]
    if "hardware" in taken.texts:
        rows = _for_hardware(rows, taken.texts["hardware"])
    if output == "json":
        recipes = [dict(zip(HEADS, row, strict=True)) for row in rows]
        print(json.dumps({"schema": SCHEMA, "recipes": recipes}, indent=2))
    else:
        print_table(HEADS, rows, out=sys.stdout)
    return EXIT_OK


def basis_text(block: dict[str, object]) -> str:
    """Return how the figures of a recipe are known."""
    expected = block.get("expected")
    if not isinstance(expected, dict):
        return "none"
    if expected.get("basis") == "measured":
        return f"measured {expected.get('date')}"
    return "planned, not measured"


def _for_hardware(rows: Sequence[list[str]], hardware: str) -> list[list[str]]:
    at = HEADS.index("hardware")
    found = [row for row in rows if row[at] == hardware]
    if not found:
        known = sorted({row[at] for row in rows})
        raise UsageError(f"hardware={hardware}: no recipe is for it; there are recipes for {quoted(known)}")
    return found


def _rows(folder: Path) -> list[list[str]]:
    rows = []
    for path in sorted(folder.glob("*.yaml")):
        block = read_block(path)
        if block is not None:
            locked = "yes" if lock_path(path).is_file() else "no"
            texts = [str(block.get(key, "")) for key in ("version", "hardware")]
            rows.append([path.stem, *texts, basis_text(block), locked, str(block.get("description", ""))])
    return rows
