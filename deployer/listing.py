"""`deploy list [group]`: the groups of the config tree and their options, read from the files alone."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import yaml

from deployer.assets import resource_dir
from deployer.config.suggest import way_out
from deployer.config.tree import ConfigTree, config_tree
from deployer.errors import EXIT_OK, UsageError
from deployer.output import take_output
from deployer.table import print_table
from deployer.yaml_text import LOADER

JSON_SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedModel:
    """One row of `deploy list models`."""

    name: str
    what: str
    family: str | None
    template: str | None
    runs: str  # "yes", or what is missing


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Print the options of one group, or all groups."""
    output, names = take_output(words)
    if len(names) > 1:
        raise UsageError(f"`deploy list` takes one group, and got {', '.join(f'`{name}`' for name in names)}")
    tree = config_tree(None, config_dirs)
    if not names:
        rows = [{"group": group, "options": len(tree.options(group))} for group in tree.groups()]
        _print(rows, output, "groups")
        return EXIT_OK
    group = _group(names[0], tree)
    if group == "model":
        print_models(sys.stdout, output=output, config_dirs=config_dirs)
    else:
        rows = [
            {"option": name, "what it is": _first_comment(tree, group, name)} for name in tree.options(group)
        ]
        _print(rows, output, group)
    return EXIT_OK


def print_models(out: TextIO, *, output: str = "table", config_dirs: Sequence[Path] = ()) -> None:
    """Print every model option, and whether this version can run it."""
    rows = [
        {
            "model": model.name,
            "runs": model.runs,
            "chat template": model.template or "told by the checkpoint",
            "what it is": model.what,
        }
        for model in listed_models(config_tree(None, config_dirs))
    ]
    _print(rows, output, "models", out=out)


def listed_models(tree: ConfigTree) -> list[ListedModel]:
    """Return the models of a tree, those that run first."""
    from engines.families import known_families

    families = known_families()
    templates = {file.stem for file in resource_dir("chat_templates").glob("*.jinja")}
    models = []
    for name in tree.options("model"):
        file = tree.file(f"model/{name}")
        assert file is not None, "an option has a file"
        values = yaml.load(file.read_text(encoding="utf-8"), Loader=LOADER) or {}
        if "family" not in values:  # it stands in a file that this one starts from
            values = _composed_model(name, tree)
        family, template = values.get("family"), values.get("template")
        models.append(
            ListedModel(
                name=name,
                what=_first_comment(tree, "model", name),
                family=family,
                template=template,
                runs=_runs(family, template, families, templates),
            )
        )
    return sorted(models, key=lambda model: (model.runs != "yes", _natural(model.name)))


def _composed_model(name: str, tree: ConfigTree) -> Mapping[str, Any]:
    from deployer.config.compose import compose

    model = compose([f"+model={name}"], config_dirs=tree.folders[:-1]).values["model"]
    assert isinstance(model, Mapping), "a model option is a mapping"
    return model


def _runs(family: str | None, template: str | None, families: Sequence[str], templates: set[str]) -> str:
    if family is not None and family not in families:
        return f"no, family {family} is not there yet"
    if template not in (None, "from_checkpoint", *templates):
        return f"no, template {template} is not there yet"
    return "yes"


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts 8b before 26b."""
    return [(int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


def _group(name: str, tree: ConfigTree) -> str:
    """Return the group that a word names, in singular or plural."""
    groups = tree.groups()
    for group in groups:
        if name in (group, f"{group}s", group.replace("_", "-"), f"{group.replace('_', '-')}s"):
            return group
    if name in ("recipe", "recipes"):
        raise UsageError(f"`{name}`: recipes are no group of the tree; `deploy recipe list` shows them")
    raise UsageError(f"unknown group `{name}`: {way_out(name, groups, kind='groups')}")


def _first_comment(tree: ConfigTree, group: str, option: str) -> str:
    """Return the comment on top of an option's file, which says when to choose it."""
    file = tree.file(f"{group}/{option}")
    assert file is not None, "an option has a file"
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return " ".join(lines)


def _print(rows: Sequence[dict[str, Any]], output: str, kind: str, *, out: TextIO | None = None) -> None:
    out = sys.stdout if out is None else out
    if output == "json":
        json.dump({"schema": JSON_SCHEMA, kind: list(rows)}, out, indent=2)
        out.write("\n")
        return
    heads = list(rows[0]) if rows else []
    print_table(heads, [[str(value) for value in row.values()] for row in rows], out=out)
