"""Which chat template a deployment uses: a file of one's own, or one of `chat_templates/`."""

import difflib
from pathlib import Path

from deployer.assets import resource_dir
from deployer.config.schema import ChatTemplateConfig
from deployer.errors import ConfigError
from deployer.typed_path import typed_path

FROM_CHECKPOINT = "from_checkpoint"  # not a file of ours, but what the checkpoint brings


def is_from_checkpoint(config: ChatTemplateConfig) -> bool:
    """Tell whether the checkpoint's own template is asked for."""
    return config.file is None and config.name == FROM_CHECKPOINT


def choose_template(config: ChatTemplateConfig) -> tuple[Path, str]:
    """Return the template's file and the setting that chose it, for messages. Raises ConfigError."""
    if config.file is not None:
        path = typed_path(config.file)
        if not path.is_file():
            raise ConfigError([f"chat_template.file={config.file}: must be a file; there is none"])
        return path, f"chat_template.file={config.file}"
    origin = f"chat_template.name={config.name}"
    known = known_templates()
    if config.name not in known:
        near = difflib.get_close_matches(config.name, [*known, FROM_CHECKPOINT], n=1)
        hint = f"; did you mean `{near[0]}`" if near else ""
        listed = ", ".join(f"`{name}`" for name in [*known, FROM_CHECKPOINT])
        raise ConfigError([f"{origin}: must be one of {listed}{hint}"])
    return resource_dir("chat_templates") / f"{config.name}.jinja", origin


def known_templates() -> list[str]:
    """Return the names in `chat_templates/`, sorted; a leading underscore marks what templates share."""
    return sorted(
        path.stem for path in resource_dir("chat_templates").glob("*.jinja") if not path.stem.startswith("_")
    )
