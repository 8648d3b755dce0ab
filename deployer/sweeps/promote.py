"""`deploy sweep promote RUN point=3`: a measured point becomes a recipe, with its figures, and is locked."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deployer.config.origins import shown_path
from deployer.config.overrides import parse_flags
from deployer.config.tree import config_tree
from deployer.config.words import group_of, is_recipe_file
from deployer.errors import EXIT_OK, UsageError
from deployer.recipes.lock import make_lock, print_made, refuse_shipped
from deployer.recipes.lock_file import lock_path, write_lock
from deployer.recipes.new import written
from deployer.recipes.options import take_words
from deployer.recipes.rebase import rebased
from deployer.refused_write import writing
from deployer.sweeps.command import one_run
from deployer.sweeps.point import Result
from deployer.sweeps.run_folder import RunFolder, open_run
from deployer.sweeps.space import read_space
from deployer.typed_path import typed_path

# figure of a recipe -> figure of a point
_EXPECTED = {
    "batch": "concurrency",
    "first_token_ms": "ttft_p50_ms",
    "token_ms": "token_p50_ms",
    "tokens_per_s": "tokens_per_s",
    "requests_per_s": "requests_per_s",
    "kv_tokens": "kv_tokens",
}
_OF_THE_BENCHMARK = ("bench",)


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Write the recipe and its lock, and say what comes next."""
    taken = take_words(
        words,
        verb="sweep promote",
        switches={"overwrite": False, "smoke": True},
        texts=("point", "as", "description"),
    )
    opened = open_run(one_run(taken.names, verb="sweep promote"))
    result = _point(opened, taken.texts.get("point"))
    path = _path(taken.texts.get("as"), opened, result)
    refuse_shipped(path)
    if (path.exists() or lock_path(path).exists()) and not taken.switches["overwrite"]:
        raise UsageError(
            f"{shown_path(path)}: is there already; write as=<another name>, or overwrite=true to replace it "
            "and its lock"
        )
    folders = [*config_dirs, *map(Path, opened.asked.config_dirs)]
    text = recipe_text(opened, result, path.stem, taken.texts.get("description"), folders)
    _write_locked(path, text, folders, smoke=taken.switches["smoke"])
    shown = shown_path(path)
    print(f"serve it: deploy {shown}\nhold another machine to it: deploy recipe verify {shown}")
    return EXIT_OK


def recipe_text(
    opened: RunFolder, result: Result, name: str, description: str | None, config_dirs: Sequence[Path]
) -> str:
    """Return the recipe of a point: what was common to all, then its own words, then what was measured."""
    base, overrides = point_words(opened, result)
    what = description or f"point {result.number} of the sweep {opened.path.name}"
    expected = measured(result)
    if base is None:
        return written(name, what, overrides, config_dirs, measured=expected)
    flags = parse_flags(overrides, config_tree(base, config_dirs))
    values = [flag for flag in flags if flag.key.partition(".")[0] != "hardware"]
    block: dict[str, Any] = {"name": name, "description": what, "expected": expected}
    if result.hardware is not None:
        block["hardware"] = result.hardware
    return rebased(Path(base), values, block)


def point_words(opened: RunFolder, result: Result) -> tuple[str | None, list[str]]:
    """Return the recipe that a sweep started from, if any, and the words that a point deploys with."""
    folders = [Path(folder) for folder in opened.asked.config_dirs]
    recipes = [word for word in opened.asked.words if is_recipe_file(word)]
    base = recipes[0] if recipes else None
    fixed = read_space(opened.asked.words, config_tree(base, folders)).fixed
    words = [
        word
        for word in (*fixed, *result.words)
        if word not in recipes and group_of(word) not in _OF_THE_BENCHMARK
    ]
    named = any(group_of(word) == "hardware" for word in words)
    if base is None and not named:
        if result.hardware is None:
            raise UsageError(
                f"point {result.number}: conf/hardware does not describe where it ran, and a recipe names "
                "its hardware; sweep again with hardware=<name>, see `deploy list hardware`"
            )
        words.append(f"hardware={result.hardware}")
    return base, words


def measured(result: Result) -> dict[str, Any]:
    """Return the `expected` block of a recipe."""
    about = result.about
    report = result.report or {}
    device = (report.get("engine") or {}).get("device")
    machine = ", ".join(str(part) for part in (device, about.get("processor")) if part)
    return {
        "basis": "measured",
        "date": result.date,
        "machine": machine,
        "commit": re.sub(r"^.*commit ", "", about["deployer"]),
        "figures": {name: _plain(result.figures[figure]) for name, figure in _EXPECTED.items()},
    }


def _plain(value: float) -> float | int:
    return int(value) if value.is_integer() else round(value, 3)


def _point(opened: RunFolder, number: str | None) -> Result:
    results = opened.results()
    done = sorted(one for one, result in results.items() if result.status == "done")
    known = f"measured points: {', '.join(map(str, done)) or 'none'}"
    if number is None or not number.isdecimal():
        raise UsageError(
            f"`deploy sweep promote` takes one point, as point={done[0] if done else 1}; {known}"
        )
    result = results.get(int(number))
    if result is None:
        raise UsageError(f"point={number}: is no settled point of {opened.path}; {known}")
    if result.status != "done":
        raise UsageError(f"point={number}: was {result.status}: {result.reason}; {known}")
    return result


def _path(name: str | None, opened: RunFolder, result: Result) -> Path:
    """Return where the recipe goes: a path as given; a name beside the recipe swept, or in ./recipes."""
    if name is not None and (name.endswith(".yaml") or "/" in name):
        path = typed_path(name)
        if path.suffix != ".yaml":
            raise UsageError(f"as={name}: a recipe's file ends in .yaml, as {name}.yaml")
        return path.resolve()
    base, _ = point_words(opened, result)
    folder = Path(base).parent if base is not None else Path("recipes")
    stem = name or re.sub(r"[^A-Za-z0-9_]+", "_", f"{opened.path.name}_{result.number}")
    return (folder / f"{stem}.yaml").resolve()


def _write_locked(path: Path, text: str, config_dirs: Sequence[Path], *, smoke: bool) -> None:
    """Write a recipe and its lock; where it does not lock, what was there before is there again."""
    before = path.read_text(encoding="utf-8") if path.exists() else None
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    try:
        made = make_lock(path, config_dirs, smoke=smoke)
    except BaseException:
        if before is None:
            path.unlink()
        else:
            path.write_text(before, encoding="utf-8")
        raise
    write_lock(made.lock, lock_path(path))
    print(f"wrote {shown_path(path)}")
    print_made(made, path)
