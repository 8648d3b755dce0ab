"""The chat template of a deployment: a file of ours, one of the user's, or the checkpoint's own."""

from pathlib import Path

from deployer.config.schema import ChatTemplateConfig
from deployer.errors import ConfigError
from deployer.prompt.chat import ChatTemplate
from deployer.prompt.checkpoint_template import ORIGIN, CheckpointTemplate
from deployer.prompt.template_choice import choose_template, is_from_checkpoint
from deployer.prompt.tokenizer import Tokenizer
from engines.spec import ModelSpec


def open_template(
    config: ChatTemplateConfig, spec: ModelSpec, folder: Path, tokenizer: Tokenizer
) -> tuple[ChatTemplate | CheckpointTemplate, str]:
    """Return the template and the setting that chose it, for messages. Raises ConfigError."""
    bos, eos = token_text(tokenizer, tokenizer.bos_id), token_text(tokenizer, tokenizer.eos_id)
    if not is_from_checkpoint(config):
        path, origin = choose_template(config)
        return ChatTemplate(path, bos_token=bos, eos_token=eos, origin=origin), origin
    if config.system == "":
        raise ConfigError(
            [f'chat_template.system="": {ORIGIN} decides itself where no text is given; set one or null']
        )
    marker = None if spec.vision is None else token_text(tokenizer, spec.vision.image_token_id)
    if marker == "":
        raise ConfigError(
            [f"{ORIGIN}: `{spec.family}` names no image token in config.json; choose one of ours"]
        )
    return CheckpointTemplate(folder, bos_token=bos, eos_token=eos, image_marker=marker), ORIGIN


def token_text(tokenizer: Tokenizer, token_id: int | None) -> str:
    """Return the text of a token, "" for none."""
    return "" if token_id is None else tokenizer.token_bytes(token_id).decode("utf-8", "replace")
