"""The chat template of a deployment: a file of ours, one of the user's, or the checkpoint's own."""

from pathlib import Path

from deployer.config.schema import ChatTemplateConfig
from deployer.errors import ConfigError
from deployer.prompt.chat import ChatTemplate
from deployer.prompt.checkpoint_template import ORIGIN, CheckpointTemplate
from deployer.prompt.template_choice import choose_template, is_from_checkpoint
from deployer.prompt.template_fields import replaced_words
from deployer.prompt.tokenizer import Tokenizer
from engines.spec import ModelSpec, VisionSpec


def open_template(
    config: ChatTemplateConfig, spec: ModelSpec, folder: Path, tokenizer: Tokenizer
) -> tuple[ChatTemplate | CheckpointTemplate, str]:
    """Return the template and the setting that chose it, for messages. Raises ConfigError."""
    bos, eos = token_text(tokenizer, tokenizer.bos_id), token_text(tokenizer, tokenizer.eos_id)
    words = replaced_words(config)
    if not is_from_checkpoint(config):
        path, origin = choose_template(config)
        completion = config.capability == "completion"
        template = ChatTemplate(
            path, bos_token=bos, eos_token=eos, origin=origin, words=words, completion=completion
        )
        return template, origin
    _check_from_checkpoint(config, words)
    marker = None if spec.vision is None else token_text(tokenizer, spec.vision.image_token_id)
    if marker == "":
        raise ConfigError(
            [f"{ORIGIN}: `{spec.family}` names no image token in config.json; choose one of ours"]
        )
    clip = None if spec.vision is None or spec.vision.video is None else spec.vision.video.clip
    video_marker = None if clip is None else token_text(tokenizer, clip.token_id)
    own = CheckpointTemplate(
        folder, bos_token=bos, eos_token=eos, image_marker=marker, video_marker=video_marker
    )
    return own, ORIGIN


def _check_from_checkpoint(config: ChatTemplateConfig, words: dict[str, str]) -> None:
    faults = [
        f"chat_template.{name}={value!r}: {ORIGIN} writes its own words; choose one of ours to replace them"
        for name, value in words.items()
    ]
    if config.capability != "chat":
        faults.append(
            f"chat_template.capability={config.capability}: {ORIGIN} writes turns; choose one of ours"
        )
    if config.meta_instruction == "":
        rule = f"{ORIGIN} decides itself where no text is given; set one or null"
        faults.append(f'chat_template.meta_instruction="": {rule}')
    if faults:
        raise ConfigError(faults)


def slot_id(
    vision: VisionSpec | None,
    template: ChatTemplate | CheckpointTemplate,
    tokenizer: Tokenizer,
    *,
    origin: str,
) -> int | None:
    """Return the id that image slots hold: the config's, else the template's; None for a text model.

    `origin`: the setting that chose the template, for messages. Raises ConfigError.
    """
    if vision is None:
        return None
    if vision.image_token_id is not None:
        return vision.image_token_id
    token = template.image_token
    token_id = None if token is None else tokenizer.token_to_id(token)
    if token_id is None:
        raise ConfigError(
            [
                f"{origin}: its `image_token` ({token or 'not set'}) must be a token of the checkpoint's "
                "vocabulary; choose the template that the model was trained with"
            ]
        )
    return token_id


def token_text(tokenizer: Tokenizer, token_id: int | None) -> str:
    """Return the text of a token, "" for none."""
    return "" if token_id is None else tokenizer.token_bytes(token_id).decode("utf-8", "replace")
