"""Which files a deployment is merged from, and the merging: the one file that uses Hydra's inner names.

Hydra resolves the defaults lists. Its front doors also compose 30 files of Hydra's own settings, keep one
composition a process, and can't search an ops repository's folder before the one with the primary config.
The names used here exist in 1.3 and 1.4; the tests hold them on both.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra import version as hydra_version
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedFile:
    """One config file in the order of merging; the last one wins."""

    config_path: str  # `group/option`
    package: str  # key that its content lands at; empty: the root


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """The files of a deployment, merged."""

    config: DictConfig
    files: tuple[MergedFile, ...]
    choices: dict[str, str]  # group -> option


class ClashError(Exception):
    """The file `config_path` has a value at `key` where others have a group of keys."""

    def __init__(self, config_path: str, key: str) -> None:
        super().__init__(f"{config_path}: {key}")
        self.config_path, self.key = config_path, key


class HydraLoader:
    """The config files of some folders, the first that has a file winning."""

    def __init__(self, primary: str, folders: Sequence[Path]) -> None:
        if hydra.__version__ < "1.4":  # 1.4 knows no other behaviour and warns when it is told
            hydra_version.setbase("1.3")
        search_path = create_config_search_path(str(folders[0]))
        for folder in folders[1:]:
            search_path.append("main", f"file://{folder}", anchor=SearchPathQuery("main", None))
        self._primary = primary
        self._files = CachingConfigRepository(ConfigRepository(search_path))

    def listed_groups(self) -> set[str]:
        """Return the groups that the primary config lists by itself."""
        return set(self._defaults([], skip_missing=True).overrides.known_choices)

    def merge(self, words: Sequence[str]) -> Merged:
        """Merge the files that these overrides choose. Raises the errors of Hydra, OmegaConf and PyYAML."""
        defaults = self._defaults(words, skip_missing=False)
        config = OmegaConf.create()
        files = []
        for default in defaults.defaults:
            if default.config_path is None:
                continue
            package = default.package or ""
            self._merge(config, default.config_path, package)
            files.append(MergedFile(config_path=default.config_path, package=package))
        choices = {group: option for group, option in defaults.overrides.known_choices.items() if option}
        return Merged(config=config, files=tuple(files), choices=choices)

    def _defaults(self, words: Sequence[str], *, skip_missing: bool) -> DefaultsList:
        overrides = OverridesParser.create().parse_overrides(list(words))
        try:
            with warnings.catch_warnings():
                # A file without `_self_` wins over what it lists, which is what its reader expects.
                warnings.filterwarnings("ignore", message=r"(?s).*Defaults list is missing `_self_`")
                return create_defaults_list(
                    repo=self._files,
                    config_name=self._primary,
                    overrides_list=overrides,
                    prepend_hydra=False,
                    skip_missing=skip_missing,
                )
        except ValueError as error:  # what Hydra raises for a malformed defaults list
            raise ConfigCompositionException(str(error)) from error

    def _merge(self, config: DictConfig, config_path: str, package: str) -> None:
        content = self._content(config_path, package)
        clash = _clash(config, content)
        if clash is not None:
            raise ClashError(config_path, clash)
        config.merge_with(content)

    def _content(self, config_path: str, package: str) -> DictConfig:
        loaded = self._files.load_config(config_path)
        assert loaded is not None, "a file of the defaults list is there"
        content: Any = loaded.config
        if not isinstance(content, DictConfig):
            raise ConfigCompositionException(f"In '{config_path}': a config file must hold keys and values")
        if not package:
            return content
        placed = OmegaConf.create()
        OmegaConf.update(placed, package, content, merge=False)
        return placed


def _clash(config: DictConfig, content: DictConfig, *, at: str = "") -> str | None:
    """Return the first key that is a group of keys in `config` and a value in `content`, None without one."""
    for name in content:
        if name not in config or OmegaConf.is_missing(config, name) or OmegaConf.is_missing(content, name):
            continue
        if OmegaConf.is_interpolation(config, str(name)) or OmegaConf.is_interpolation(content, str(name)):
            continue
        old, new, key = config[name], content[name], f"{at}{name!s}"
        if isinstance(old, DictConfig) and isinstance(new, DictConfig):
            found = _clash(old, new, at=f"{key}.")
            if found is not None:
                return found
        elif isinstance(old, DictConfig) and new is not None:
            return key
    return None
