"""What a checkpoint folder on this machine tells: its config.json fills in what the model option left open.

For `model=local` and for the model that ships. What is set already stays.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployer.assets import PACKAGE
from deployer.config.compose import Composition
from deployer.errors import ConfigError

# Upstream's `template` key of an InternVL config.json -> our template. Hermes-2 and internlm2-chat write the
# same prompt; they differ in stop ids, which come from the checkpoint.
_INTERNVL_TEMPLATES = {
    "internlm2-chat": "internvl2-internlm2",
    "Hermes-2": "internvl2-internlm2",
    "phi3-chat": "internvl2-phi3",
    "internvl_zh": "internvl-zh",
}
_FAMILIES = {"InternVLChatModel": "internvl"}


def checkpoint_folder(*, hub: str, path: str) -> Path:
    """Return the folder of a checkpoint that is on this machine (`hub` folder or package)."""
    return PACKAGE / "models" / path if hub == "package" else Path(path).expanduser()


def complete_from_folder(composition: Composition) -> None:
    """Fill in family, template and hyper-parameters of the model, and the chat template, where they are null.

    Raises ConfigError where the folder or its config.json is not there or cannot be read.
    """
    model = composition.values.get("model")
    if not isinstance(model, dict) or model.get("hub") not in ("folder", "package"):
        return
    path = model.get("path")
    if not isinstance(path, str) or path == "???" or model.get("hyper_parameters") is not None:
        return  # build.py says what is wrong with the path
    file = checkpoint_folder(hub=model["hub"], path=path) / "config.json"
    if model["hub"] == "package" and not file.exists():
        return
    config = _read(file, path, composition)
    found = {
        "hyper_parameters": config,
        "family": _family(config),
        "template": _INTERNVL_TEMPLATES.get(str(config.get("template"))),
    }
    for name, value in found.items():
        if model.get(name) is None and value is not None:
            model[name] = value
            composition.origins.add_found(f"model.{name}", value, file)
    template = composition.values.get("chat_template")
    if isinstance(template, dict) and template.get("name") is None and model.get("template") is not None:
        template["name"] = model["template"]
        composition.origins.add_found("chat_template.name", template["name"], file)


def _read(file: Path, path: str, composition: Composition) -> dict[str, Any]:
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


def _family(config: Mapping[str, Any]) -> str | None:
    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list) else []
    return next((_FAMILIES[name] for name in names if name in _FAMILIES), None)
