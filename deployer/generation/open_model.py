"""The checkpoint of a deployment: its folder on this machine, and what its config.json says. Torch-free."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deployer.companions import fetch_companions
from deployer.config.folder import local_folder
from deployer.config.hyper_parameters import with_tower, without_factor_lists
from deployer.config.schema import ModelConfig
from deployer.errors import ConfigError, UnavailableError
from deployer.hub import fetch_checkpoint
from engines.errors import CheckpointError
from engines.families import known_families, read_spec
from engines.spec import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedModel:
    """A checkpoint that can be run."""

    folder: Path
    spec: ModelSpec
    differences: tuple[str, ...]  # between the model option's hyper-parameters and config.json, one line each


def open_model(model: ModelConfig, *, weights: bool = True, tower: str | None = None) -> OpenedModel:
    """Find the checkpoint, download it where it isn't here, and read its config.

    `weights=False` downloads no weights: enough to build prompts, not to start an engine. `tower` is
    `vision.name`. Raises ConfigError where the model has no place for such a tower, CheckpointError for a
    folder that is not what it must be, and what `fetch_checkpoint` raises.
    """
    folder = fetch_checkpoint(model, weights=weights)
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror}; name a folder with a whole checkpoint") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: {error}; fetch the checkpoint again") from error
    described = with_tower(config, tower)
    spec = read_spec(described, origin=str(file), folder=folder)
    if spec.companions and weights:
        companions = fetch_companions(model, folder, spec.companions)
        spec = replace(read_spec(described, origin=str(file), folder=folder), companions=companions)
    return OpenedModel(
        folder=folder, spec=spec, differences=tuple(differences(model.hyper_parameters or {}, config))
    )


def sized_model(model: ModelConfig, *, tower: str | None = None) -> OpenedModel:
    """Return a model of the option's shapes, for `engine.load_format=random`; no checkpoint is read.

    Raises ConfigError where the option has no hyper-parameters, CheckpointError for what they cannot mean.
    """
    if model.hyper_parameters is None:
        raise ConfigError(
            [
                f"model.hyper_parameters=null (model `{model.name}`): random weights are made from the keys "
                "of config.json; use a model option that has them, or model=local model.path=<folder>"
            ]
        )
    folder = local_folder(model)
    spec = read_spec(
        with_tower(without_factor_lists(model.hyper_parameters), tower),
        origin=f"hyper_parameters of model `{model.name}`",
        folder=folder,
    )
    return OpenedModel(folder=folder or Path(f"no checkpoint of {model.name}"), spec=spec, differences=())


def check_family(model: ModelConfig) -> None:
    """Raise UnavailableError for a family whose network is not there yet."""
    if model.family is not None and model.family not in known_families():
        runs = ", ".join(f"`{name}`" for name in known_families())
        raise UnavailableError(
            f"model `{model.name}`: its family `{model.family}` can be planned and explained, but not run in "
            f"this version; families that run: {runs}"
        )


def differences(expected: Mapping[str, Any], found: Mapping[str, Any], *, path: str = "") -> Iterator[str]:
    """Yield one line for each expected key that the checkpoint's config.json has otherwise."""
    for key, value in expected.items():
        name = f"{path}{key}"
        there = found.get(key)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            yield from differences(value, there, path=f"{name}.")
        elif key in found and there != value:
            yield f"`{name}` is {there!r} in the checkpoint, {value!r} in the model option"
