"""Hydra's composition without its global state: the one file that uses Hydra's inner names.

`hydra.initialize` can't put an ops repository's folder before the one with the primary config, and keeps one
composition a process. The names used here exist in 1.3 and 1.4; the tests hold them on both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra import version as hydra_version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedFile:
    """One config file in the order of merging."""

    config_path: str  # `group/option`
    package: str  # key that its content lands at; empty: the root


class HydraLoader:
    """The config files of some folders, the first that has a file winning."""

    def __init__(self, primary: str, folders: Sequence[Path]) -> None:
        if hydra.__version__ < "1.4":  # 1.4 knows no other behaviour and warns when it is told
            hydra_version.setbase("1.3")
        search_path = create_config_search_path(str(folders[0]))
        for folder in folders[1:]:
            search_path.append("main", f"file://{folder}", anchor=SearchPathQuery("main", None))
        self._primary = primary
        self._loader = ConfigLoaderImpl(search_path)

    def listed_groups(self) -> Mapping[str, Any]:
        """Return the groups that the primary config lists by itself, with their options."""
        listed = self._loader.compute_defaults_list(self._primary, [], RunMode.MULTIRUN)
        return listed.overrides.known_choices

    def files(self, words: Sequence[str]) -> tuple[list[LoadedFile], dict[str, str]]:
        """Return the files that these overrides merge, and the option chosen in each group."""
        defaults = self._loader.compute_defaults_list(self._primary, list(words), RunMode.RUN)
        files = [
            LoadedFile(config_path=default.config_path, package=default.package or "")
            for default in defaults.defaults
            if default.config_path is not None and not default.config_path.startswith("hydra/")
        ]
        choices = {
            group: option
            for group, option in defaults.overrides.known_choices.items()
            if option is not None and not group.startswith("hydra/")
        }
        return files, choices

    def compose(self, words: Sequence[str]) -> DictConfig:
        """Return the merged config, Hydra's own part left out."""
        own = ["hydra.job.name=deploy"]
        config = self._loader.load_configuration(
            self._primary, [*own, *words], run_mode=RunMode.RUN, from_shell=False
        )
        with open_dict(config):
            del config["hydra"]
        return config
