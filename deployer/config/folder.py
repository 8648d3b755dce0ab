"""What a checkpoint folder on this machine tells: its config.json fills in what the model option left open.

For `model=local` and for the model that ships. What is set already stays.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployer.assets import PACKAGE
from deployer.config.build import MISSING
from deployer.config.hyper_parameters import with_tower
from deployer.config.origins import shown_path
from deployer.config.schema import ModelConfig
from deployer.config.suggest import quoted
from deployer.errors import ConfigError
from deployer.typed_path import typed_path
from engines.errors import CheckpointError
from engines.families import read_spec

if TYPE_CHECKING:
    from deployer.config.compose import Composition

# Upstream's `template` key of an InternVL config.json -> our template. Hermes-2 and internlm2-chat write the
# same prompt; they differ in stop ids, which come from the checkpoint.
_INTERNVL_TEMPLATES = {
    "internlm2-chat": "internvl2-internlm2",
    "Hermes-2": "internvl2-internlm2",
    "phi3-chat": "internvl2-phi3",
    "internvl_zh": "internvl-zh",
}


def checkpoint_folder(*, hub: str, path: str) -> Path:
    """Return the folder of a checkpoint that is on this machine (`hub` folder or package)."""
    return PACKAGE / "models" / path if hub == "package" else typed_path(path)


def local_folder(model: ModelConfig) -> Path | None:
    """Return the folder of a model that is on this machine; None for one of a hub."""
    if model.hub not in ("folder", "package") or model.path is None:
        return None
    return checkpoint_folder(hub=model.hub, path=model.path)


def complete_from_folder(composition: "Composition") -> None:
    """Fill in family, template and hyper-parameters of the model, and the chat template, where they are null.

    Raises ConfigError where the folder or its config.json is not there or cannot be read.
    """
    model = composition.values.get("model")
    if not isinstance(model, dict):
        return
    if model.get("hub") not in ("folder", "package"):
        _refuse_untold(model, composition)
        return
    if model.get("path") == MISSING:
        where = composition.origins.where("model.path")
        raise ConfigError([f"missing `model.path` ({where}): set model.path=<folder of a checkpoint>"])
    path = model.get("path")
    if not isinstance(path, str) or not path or model.get("hyper_parameters") is not None:
        return  # build.py and checks.py say what is wrong with the path
    file = checkpoint_folder(hub=model["hub"], path=path) / "config.json"
    if model["hub"] == "package" and not file.exists():
        return  # a checkout without the weights still explains; serving says that they are missing
    config = _read(file, path, composition)
    found = {
        "hyper_parameters": config,
        "family": _family(with_tower(config, _tower(composition)), file),
        "template": _named_template(config, composition) or _own_template(file.parent),
    }
    for name, value in found.items():
        if model.get(name) is None and value is not None:
            model[name] = value
            composition.origins.add_found(f"model.{name}", value, file)
    _complete_template(composition, model.get("template"), file)


def _refuse_untold(model: Mapping[str, Any], composition: "Composition") -> None:
    """Raise ConfigError for a repository of a hub whose template nobody told."""
    repo, chat = model.get("repo"), composition.values.get("chat_template")
    told = model.get("template") is not None or (isinstance(chat, dict) and chat.get("name") is not None)
    if repo is None or told:
        return  # checks.py says that a repository is missing
    fault = (
        f"model.repo={repo} ({composition.origins.where('model.repo')}): only a folder tells its template; "
        f"write +model=<what it was made from> model.repo={repo}, or download it and write +model=local "
        f"model.path=<its folder>"
    )
    raise ConfigError([fault])


def _tower(composition: "Composition") -> str | None:
    """Return `vision.name`; what is no name is a fault of its own."""
    vision = composition.values.get("vision")
    name = vision.get("name") if isinstance(vision, dict) else None
    return name if isinstance(name, str) and name != MISSING else None


def _named_template(config: Mapping[str, Any], composition: "Composition") -> str | None:
    """Return the template that config.json names, by upstream's name or by ours."""
    name = str(config.get("template"))
    ours = name if name in composition.tree.options("chat_template") else None
    return _INTERNVL_TEMPLATES.get(name, ours)


def _own_template(folder: Path) -> str | None:
    """Return `from_checkpoint` where the folder brings a chat template."""
    brings = (folder / "chat_template.jinja").is_file()
    for name in ("chat_template.json", "tokenizer_config.json"):
        file = folder / name
        brings = brings or (file.is_file() and '"chat_template"' in file.read_text(encoding="utf-8"))
    return "from_checkpoint" if brings else None


def _complete_template(composition: "Composition", template: object, file: Path) -> None:
    chat = composition.values.get("chat_template")
    if not isinstance(chat, dict) or chat.get("name") is not None:
        return
    if template is None:
        known = quoted(name for name in composition.tree.options("chat_template") if name != "auto")
        rule = f"{shown_path(file)} names no template known here; choose chat_template=<name>: {known}"
        raise ConfigError(
            [f"chat_template.name=null ({composition.origins.where('chat_template.name')}): {rule}"]
        )
    chat["name"] = template
    composition.origins.add_found("chat_template.name", template, file)


def _read(file: Path, path: str, composition: "Composition") -> dict[str, Any]:
    where = f"model.path={path} ({composition.origins.where('model.path')})"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        what = (
            "is not a folder"
            if not file.parent.is_dir()
            else f"its config.json cannot be read, {error.strerror}"
        )
        raise ConfigError([f"{where}: {what}; name the folder of a checkpoint"]) from error
    except ValueError as error:
        raise ConfigError(
            [f"{where}: its config.json is not JSON: {error}; fetch the checkpoint again"]
        ) from error
    if not isinstance(config, Mapping):
        raise ConfigError([f"{where}: its config.json must be an object; fetch the checkpoint again"])
    return dict(config)


def _family(config: Mapping[str, Any], file: Path) -> str:
    try:
        return read_spec(config, origin=str(file), folder=file.parent).family
    except CheckpointError as error:
        raise ConfigError([str(error)]) from error
