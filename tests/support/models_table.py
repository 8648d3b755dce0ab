"""The table of docs/models.md, from what the tests hold: `python tests/support/models_table.py [FOLDER]`.

A tick stands where a fixture of the family has the reference's numbers for it: `tests/deployer/parity` fails
where a fixture no longer gives them, `tests/test_models_table.py` where the document says something else.
Figures of a GPU are recorded: FOLDER holds what `.ci/gpu_families fixtures` left in $OUT.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from golden_fixtures import FOLDERS, REFUSED

from deployer.parity.golden_folder import GoldenFolder
from engines.families import known_families, read_spec

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "models.md"
RECORD = ROOT / "tests" / "fixtures" / "gpu_parity.json"
BEGIN, END = "<!-- table: tests/support/models_table.py -->\n", "<!-- end of table -->\n"
TICK = "✓"
HEADS = (
    "family", "preprocess", "features", "logits", "greedy", "chunked", "two images", "CUDA fp32",
    "CUDA bf16 pytorch", "CUDA bf16 turbomind",
)  # fmt: skip
RUNS = {
    "CUDA fp32": ("pytorch", "float32"),
    "CUDA bf16 pytorch": ("pytorch", "bfloat16"),
    "CUDA bf16 turbomind": ("turbomind", "bfloat16"),
}
# The test that holds pixels to the reference's, at released sizes.
_LLAVA_KIN = "tests/deployer/config/test_llava_models.py::test_pixels_are_the_references"
PREPROCESS = {
    "cogvlm": "tests/engines/families/test_framed_families.py"
    "::test_pixels_are_the_references_at_the_fixtures_and_at_the_released_size",
    "deepseek_vl": _LLAVA_KIN,
    "glm4v": "tests/engines/families/test_framed_families.py"
    "::test_pixels_are_the_references_at_the_fixtures_and_at_the_released_size",
    "internvl": "tests/engines/vision/test_dynamic_tiles.py::test_full_size_tiles_are_the_references",
    "internvl3_hf": "tests/engines/families/test_internvl3_hf.py::test_tiles_are_the_references",
    "llava": _LLAVA_KIN,
    "llava_hf": _LLAVA_KIN,
    "mini_gemini": _LLAVA_KIN,
    "minicpm_v": "tests/engines/families/test_minicpm_v.py::test_blocks_and_their_prompt_are_upstreams",
    "phi3_vision": "tests/engines/families/test_phi3_vision.py::test_tiles_and_the_global_view_are_upstreams",
    "qwen2_vl": "tests/engines/vision/test_native.py::test_patches_of_real_pictures_are_the_references",
    "qwen_vl": "tests/engines/families/test_qwen_vl.py::test_pictures_are_squashed_as_upstreams",
    "xcomposer": "tests/engines/families/test_xcomposer.py::test_pictures_are_upstreams",
    "yi_vl": _LLAVA_KIN,
}
# Why a family has no two pictures of a reference; the engine's loop is held to the network instead.
_OWN = "loop against network: "
TWO_IMAGES = {
    "cogvlm": _OWN + "the reference takes one picture",
    "glm4v": _OWN + "the reference takes one picture",
}
_LOOP_FRAMED = (
    "tests/engines/families/test_framed_families.py"
    "::test_the_engine_gives_what_the_network_gives_at_once_and_from_the_cache"
)
LOOPS = dict.fromkeys(TWO_IMAGES, _LOOP_FRAMED)


def table() -> str:
    """Return the table as it must stand in the document."""
    by_family: dict[str, list[str]] = {family: [] for family in known_families()}
    for name in FOLDERS:
        by_family[_family(name)].append(name)
    lines = [HEADS, ("---",) * len(HEADS)]
    lines += [_row(family, fixtures) for family, fixtures in by_family.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def written_table() -> str:
    """Return the table of the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


def known_tests() -> set[str]:
    """Return every test function as `file::function`."""
    return {
        f"{file.relative_to(ROOT).as_posix()}::{node.name}"
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def _row(family: str, fixtures: list[str]) -> tuple[str, ...]:
    goldens = [GoldenFolder.open(FOLDERS[name]) for name in fixtures]
    is_text = family == "text"
    num_images = [sum(1 for _ in _pictures(golden, case)) for golden in goldens for case in golden.cases]
    cells = {
        "preprocess": "no pictures" if is_text else TICK if family in PREPROCESS else "no test",
        "features": "no pictures" if is_text else _ticked(any(g.rows(c) for g in goldens for c in g.cases)),
        "logits": _ticked(bool(goldens)),
        "greedy": _ticked(bool(goldens)),
        "chunked": _ticked(bool(goldens)),
        "two images": "no pictures" if is_text else TICK if max(num_images) > 1 else TWO_IMAGES[family],
    }
    cells |= {head: _on_gpu(fixtures, *run) for head, run in RUNS.items()}
    return (f"`{family}`", *(cells[head] for head in HEADS[1:]))


def _pictures(golden: GoldenFolder, case: str) -> Iterator[Any]:
    """Yield something for each picture of a case."""
    named = golden.prompt(case).get("images")
    starts = golden.find("starts", case)
    if named is not None or starts is not None:
        yield from starts if named is None else named
    elif re.fullmatch(r"img\d+[a-z]?", case):
        yield from range(int(re.sub(r"\D", "", case)))


def _on_gpu(fixtures: list[str], engine: str, dtype: str) -> str:
    record = json.loads(RECORD.read_text()) if RECORD.exists() else []
    found = {row["name"]: row for row in record if (row["engine"], row["dtype"]) == (engine, dtype)}
    rows = [found[name] for name in fixtures if name in found]
    failed = [row["name"] for row in rows if not row["holds"]]
    if not rows:
        refused = engine == "turbomind" and REFUSED.keys() >= set(fixtures)
        return "kernels have no such small sizes" if refused else "not run"
    return f"fails: {', '.join(failed)}" if failed else f"{TICK} {max(row['error'] for row in rows):.1e}"


def _family(name: str) -> str:
    config = json.loads((FOLDERS[name] / "config.json").read_text())
    return read_spec(config, origin=name, folder=FOLDERS[name]).family


def _ticked(holds: bool) -> str:
    return TICK if holds else "no fixture"


def record(folder: Path) -> None:
    """Keep the figures that a GPU run left in a folder, in place of those that it measured again."""
    known = json.loads(RECORD.read_text()) if RECORD.exists() else []
    rows = {(row["name"], row["engine"], row["dtype"]): row for row in known}
    for file in sorted(folder.glob("parity-*.json")):
        run = json.loads(file.read_text())
        kind = "relative" if run["tolerance"]["relative"] else "largest"
        errors = [part[kind] for case in run["cases"] for part in case["logits"].values()]
        kept = ("name", "engine", "dtype", "device", "torch", "holds")
        row = {key: run[key] for key in kept} | {"error": max(errors)}  # the largest of its logits
        rows[row["name"], row["engine"], row["dtype"]] = row
    RECORD.write_text(json.dumps(list(rows.values()), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:]:
        record(Path(sys.argv[1]))
    text = DOCUMENT.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    DOCUMENT.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
