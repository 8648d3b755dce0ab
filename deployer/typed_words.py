"""What to write instead of a word that is none of ours: names of other tools, models and repositories."""

from collections.abc import Iterable
from typing import get_type_hints

from deployer.typed_path import names_file, typed_path


def as_setting(flag: str, value: str | None) -> str:
    """Return how the setting behind a flag is written: --port is server.port=, --server-port of LMDeploy too.

    `value`: what was typed for it; None: nothing.
    """
    name = flag.strip("-").replace("-", "_")
    found = _own_setting(name, value or "<value>") or _lmdeploy_setting(name, value)
    return f"settings read key=value: write {found}" if found else "settings read key=value"


def as_model(name: str) -> str | None:
    """Return how a model or a recipe is written that was typed as a bare word; None where it names none."""
    from deployer.config.recipe_file import known_recipes
    from deployer.config.repositories import options_by_repository
    from deployer.config.tree import config_tree

    tree = config_tree(None, ())
    if tree.has_option("model", name):
        return f"it is a model; write +model={name}"
    if name in known_recipes(()):
        return f"it is a recipe; write +recipe={name}"
    if "/" not in name:
        return None
    option = options_by_repository(tree).get(name.lower())
    if option is not None:
        return f"it is the repository of a model; write +model={option}"
    if names_file(typed_path(name) / "config.json"):
        return f"it is a checkpoint's folder; write +model=local model.path={name}"
    return None


def as_lmdeploy(words: Iterable[str]) -> str | None:
    """Return what reads a command of LMDeploy, where a word is the name of one."""
    from deployer.lmdeploy.programs import ELSEWHERE, PROGRAMS
    from deployer.verbs import VERBS

    names = {part for command in (*PROGRAMS, *ELSEWHERE) for part in command} - VERBS.keys()
    if not any(word.replace("-", "_") in names for word in words):
        return None
    return "for a command of LMDeploy write deploy import-lmdeploy -- lmdeploy ..."


def _own_setting(name: str, value: str) -> str | None:
    from deployer.config.arms import arms_of
    from deployer.config.schema import DeployConfig

    groups = get_type_hints(DeployConfig)
    for group, kind in groups.items():
        key = group if group == name else f"{group}.{name}"
        if key == name or any(name in get_type_hints(arm) for arm in arms_of(kind)):
            start = "+" if key == "model" else ""  # a deployment has no model of its own
            return f"{start}{key}={value}"
    return None


def _lmdeploy_setting(name: str, value: str | None) -> str | None:
    """Return the setting that a flag of LMDeploy's server is here."""
    from deployer.lmdeploy.flags import API_SERVER

    flag = API_SERVER.get(name.replace("_", "-"))
    if flag is None:
        return None
    if flag.key is not None:
        given = "true" if flag.arity == "switch" else value or "<value>"
        return f"{flag.key}={f'[{given}]' if flag.arity == 'many' else given}"
    return (flag.words or {}).get(value or "") or None
