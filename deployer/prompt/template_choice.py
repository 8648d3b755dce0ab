"""Which chat template a deployment uses: a file of one's own, the config's choice, the checkpoint's."""

import difflib
from pathlib import Path
from typing import Any

from deployer.assets import resource_dir
from deployer.config.schema import ChatTemplateConfig
from deployer.errors import ConfigError

# `template` in config.json of the InternVL releases. V1-5 and V2 name theirs alike; V2's system text is
# taken, since V1-5 has model files of its own.
_OF_CHECKPOINT = {
    "Hermes-2": "internvl2-internlm2",
    "internlm2-chat": "internvl2-internlm2",
    "internvl_zh": "internvl-zh",
    "phi3-chat": "internvl2-phi3",
}


def choose_template(config: ChatTemplateConfig, checkpoint: dict[str, Any]) -> tuple[Path, str]:
    """Return the template's file and what chose it; `checkpoint` is config.json. Raises ConfigError."""
    if config.file is not None:
        path = Path(config.file)
        if not path.is_file():
            raise ConfigError([f"chat_template.file={config.file}: no such file"])
        return path, f"chat_template.file={config.file}"
    folder = resource_dir("chat_templates")
    known = sorted(path.stem for path in folder.glob("*.jinja") if not path.stem.startswith("_"))
    name: str | None = config.name
    origin = f"chat_template.name={name}"
    if name is None:
        said = checkpoint.get("template")
        name = _OF_CHECKPOINT.get(str(said))
        origin = f"`template` of the checkpoint's config.json ({said})"
        if name is None:
            raise ConfigError(
                [
                    f"chat_template.name: not set, and {origin} is not one of {_listed(_OF_CHECKPOINT)}; "
                    f"set it to one of {_listed(known)}"
                ]
            )
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean `{near[0]}`" if near else ""
        raise ConfigError([f"{origin}: must be one of {_listed(known)}{hint}"])
    return folder / f"{name}.jinja", origin


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
