"""Targets rendered as `deploy render` does it, for tests."""

from collections.abc import Sequence
from typing import Any

import yaml

from deployer.config.load import load_for_verb
from deployer.targets.command import rendered
from deployer.verbs import VERBS


def render_files(*words: str) -> dict[str, str]:
    """Return the files of `deploy render WORDS`, by name."""
    config, _, plan, hardware = load_for_verb(VERBS["render"], words)
    return {file.path: file.text for file in rendered(config, plan, hardware)}


def render_objects(*words: str) -> dict[str, dict[str, Any]]:
    """Return the YAML documents of `deploy render WORDS`, by their kind where they have one."""
    found = {
        path: yaml.safe_load(text) for path, text in render_files(*words).items() if path.endswith(".yaml")
    }
    return {
        value.get("kind", path) if isinstance(value, dict) else path: value for path, value in found.items()
    }


def named(items: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the one item of that name."""
    (found,) = [item for item in items if item["name"] == name]
    return found
