"""What set each value of a deployment, named so that it reads the same on every machine.

`deployer:conf/...` ships with the package; anything else is named from the recipe's folder.
"""

import os
from pathlib import Path

from deployer.assets import PACKAGE, resource_dir
from deployer.config.compose import Composition
from deployer.config.origins import Setting


def set_by(composition: Composition) -> dict[str, str]:
    """Return what set each key, as this machine names it."""
    return {key: composition.origins.where(key) for key in composition.origins.settings}


def layers(composition: Composition, recipe: Path, keys: list[str]) -> dict[str, list[str]]:
    """Return the layers of each key, the last one held."""
    return {
        key: list(
            dict.fromkeys(_label(setting, composition, recipe) for setting in composition.origins.of(key))
        )
        for key in keys
    }


def _label(setting: Setting, composition: Composition, recipe: Path) -> str:
    if setting.flag is not None:
        return f"command line `{setting.flag}`"
    path = composition.origins.files.get(str(setting.file))
    if path is None:
        return str(setting.file)
    shipped = resource_dir("conf")
    if path.is_relative_to(shipped):
        return f"deployer:conf/{path.relative_to(shipped).as_posix()}"
    if path.is_relative_to(PACKAGE):
        return f"deployer:{path.relative_to(PACKAGE).as_posix()}"
    if path.is_relative_to(recipe.parent.parent):
        return Path(os.path.relpath(path, recipe.parent)).as_posix()
    return path.name
