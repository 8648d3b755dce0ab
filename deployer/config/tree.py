"""The folders of config files: which groups and options there are, and which file stands for one. Hydra-free.

The first folder wins: a recipe's own, then each `--config-dir`, then what ships. A file whose name starts
with `_` is a part of others and not an option.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployer.assets import resource_dir
from deployer.errors import ConfigError, UsageError
from deployer.typed_path import names_file, names_folder, typed_path


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigTree:
    """A primary config and the search path of its groups."""

    primary: str  # name of the primary config, without .yaml
    folders: tuple[Path, ...]  # absolute; the first that has a file wins
    recipe: Path | None  # the recipe that is the primary config

    def groups(self) -> list[str]:
        """Return the names of all groups."""
        found = {path.name for folder in self.folders for path in folder.iterdir() if _is_group(path)}
        return sorted(found)

    def is_group(self, key: str) -> bool:
        """Tell whether a key of the command line, which may be any text, names a group."""
        return "." not in key and any(names_folder(folder / key) for folder in self.folders if key)

    def options(self, group: str) -> list[str]:
        """Return the options of a group."""
        found = {path.stem for folder in self.folders for path in (folder / group).glob("*.yaml")}
        return sorted(name for name in found if not name.startswith("_"))

    def has_option(self, group: str, name: str) -> bool:
        """Tell whether a name, which may lead into a subfolder, is an option of a group."""
        parts = name.split("/")
        own = not any(part in ("", ".", "..") or part.startswith("_") for part in parts)
        return own and self.file(f"{group}/{name}") is not None

    def file(self, config_path: str) -> Path | None:
        """Return the file that Hydra loads for `group/option`."""
        files = (folder / f"{config_path}.yaml" for folder in self.folders)
        return next((file for file in files if names_file(file)), None)


def config_tree(recipe: str | None, config_dirs: Sequence[Path]) -> ConfigTree:
    """Return the tree of a recipe file (or of the built-in deployment) with the folders of an ops repository.

    A recipe `ops/recipes/prod.yaml` brings `ops/recipes`, `ops/recipes/conf` and `ops/conf`, where they
    exist, from whatever folder it is started.
    """
    missing = [folder for folder in config_dirs if not folder.is_dir()]
    if missing:
        raise ConfigError(
            [
                f"--config-dir {folder}: is not a folder; name one that holds groups as conf/ does"
                for folder in missing
            ]
        )
    if closed := [folder for folder in config_dirs if not os.access(folder, os.R_OK | os.X_OK)]:
        raise ConfigError(
            [f"--config-dir {folder}: cannot be read; let this user read it" for folder in closed]
        )
    built_in = resource_dir("conf")
    given = [folder.resolve() for folder in config_dirs]
    if recipe is None:
        return ConfigTree(primary="deploy", folders=tuple(dict.fromkeys([*given, built_in])), recipe=None)
    path = typed_path(recipe).resolve()
    if not names_file(path):
        raise UsageError(
            f"recipe `{recipe}`: there is no such file; give its path, or +recipe=<name> for one that "
            "ships or lies below --config-dir"
        )
    own = [path.parent, path.parent / "conf", path.parent.parent / "conf"]
    folders = [path.parent, *(folder for folder in own[1:] if folder.is_dir()), *given, built_in]
    return ConfigTree(primary=path.stem, folders=tuple(dict.fromkeys(folders)), recipe=path)


def _is_group(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(("_", ".")) and any(path.glob("*.yaml"))
