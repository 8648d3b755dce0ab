"""`deploy recipe new FILE`: a recipe from overrides with the figures of its plan, or a copy of another."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deployer.config.origins import shown_path
from deployer.config.overrides import Flag, parse_flags
from deployer.config.recipe_file import BLOCK, SCHEMA
from deployer.config.tree import config_tree
from deployer.errors import EXIT_OK, UsageError
from deployer.plan.plan import Plan
from deployer.recipes.command import recipe_of
from deployer.recipes.flag_values import chosen_options, with_values
from deployer.recipes.migrations import TOLERANCE
from deployer.recipes.plan_summary import figures, summary
from deployer.recipes.rebase import rebased
from deployer.recipes.resolved import plan_of, resolve
from deployer.refused_write import writing
from deployer.typed_path import typed_path
from deployer.yaml_text import yaml_text

BESIDE = ("description", "from")  # words that are no overrides


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Write the recipe and say what comes next."""
    files = [word for word in words if "=" not in word and not word.startswith("~")]
    if len(files) != 1 or not files[0].endswith(".yaml"):
        raise UsageError("`deploy recipe new` writes one file; name it, as ops/recipes/mine.yaml")
    path = typed_path(files[0])
    if path.exists():
        raise UsageError(f"{path}: is there already; name another file, or edit it")
    texts = {key: value for key, _, value in (w.partition("=") for w in words) if key in BESIDE}
    overrides = [word for word in words if word != files[0] and word.partition("=")[0] not in BESIDE]
    if "from" in texts and overrides:
        raise UsageError(f"`{overrides[0]}`: from= copies a recipe as it is; edit the copy")
    if "from" in texts:
        text = copied(recipe_of(texts["from"], config_dirs), path.stem)
    else:
        text = written(path.stem, texts.get("description"), overrides, config_dirs)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shown = shown_path(path.resolve())
    print(f"wrote {shown}\nserve it: deploy {shown}\nlock it:  deploy recipe lock {shown}")
    return EXIT_OK


def copied(source: Path, name: str) -> str:
    """Return a recipe's text under another name."""
    return rebased(source, [], {"name": name})


def written(
    name: str,
    description: str | None,
    overrides: Sequence[str],
    config_dirs: Sequence[Path],
    *,
    measured: Mapping[str, Any] | None = None,
) -> str:
    """Return the text of a recipe that these overrides spell, with these figures or those of its plan.

    Raises ConfigError where the overrides don't hold.
    """
    resolved = resolve(overrides, config_dirs)
    if resolved.composition.tree.recipe is not None:
        raise UsageError("a recipe starts from overrides, or with from=<recipe> from another one")
    plan = plan_of(resolved.config, resolved.options, resolved.hardware)
    flags = parse_flags(overrides, config_tree(None, config_dirs))
    hardware = resolved.composition.choices["hardware"]
    block = {
        "schema": SCHEMA,
        "name": name,
        "version": "1",
        "description": description
        or f"{resolved.config.model.name} on {resolved.config.engine.tp} x {hardware}",
        "hardware": hardware,
        "tolerance": TOLERANCE,
        "expected": measured or (_planned(plan) if isinstance(plan, Plan) and plan.fits else None),
    }
    parts: list[dict[str, Any]] = [
        {BLOCK: block},
        {"defaults": _defaults(flags, resolved.config.model.name)},
        with_values({}, [flag for flag in flags if not _is_of_the_plan(flag)]),
    ]
    return "\n".join(yaml_text(part) for part in parts if part)


def _planned(plan: Plan) -> dict[str, Any]:
    return {
        "basis": "planned",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": None,
        "commit": None,
        "figures": figures(summary(plan)),
    }


def _defaults(flags: Sequence[Flag], model: str) -> list[Any]:
    """Return the defaults list: the built-in deployment, the model, then what replaces its options."""
    chosen = chosen_options(flags)
    models = [{"model": chosen.pop("model", model)}]
    replaced = [{f"override {group}": option} for group, option in chosen.items() if group != "hardware"]
    return ["deploy", *models, *replaced, "_self_"]


def _is_of_the_plan(flag: Flag) -> bool:
    """Tell whether a flag sets what `deploy plan` reads and no deployment does."""
    return flag.kind == "value" and flag.key.partition(".")[0] in ("hardware", "plan")
