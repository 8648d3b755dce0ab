"""The fields of a chat template that a config sets, or a JSON file of them: LMDeploy's ChatTemplateConfig.

{"model_name": "mine", "system": "<s>", "meta_instruction": "Be brief.", "eosys": "\\n", "user": "...", "eoh":
 "...", "assistant": "...", "eoa": "...", "separator": "...", "capability": "chat", "stop_words": ["..."]}
"""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from deployer.config.schema import ChatTemplateConfig
from deployer.config.suggest import way_out
from deployer.errors import ConfigError
from deployer.prompt.turn_words import WORDS
from deployer.typed_path import typed_path

_TEXTS = ("meta_instruction", *WORDS)
_KNOWN = ("model_name", *_TEXTS, "capability", "stop_words")


def is_fields_file(config: ChatTemplateConfig) -> bool:
    """Tell whether `chat_template.file` is a JSON of fields rather than a Jinja file."""
    return config.file is not None and config.file.endswith(".json")


def with_fields_file(config: ChatTemplateConfig, *, known_templates: list[str]) -> ChatTemplateConfig:
    """Return the config with the fields of its JSON file; what the config sets itself stays.

    A `model_name` that is a template here names the one whose words are replaced. Any other name means that
    the file says all words, and what it leaves out is empty; contents and pictures are written as the
    configured template writes them. Raises ConfigError with everything that is wrong with the file, a name
    without words around turns included: that is a template's name, written otherwise.
    """
    if not is_fields_file(config):
        return config
    assert config.file is not None, "a file of fields has a name"
    where = f"chat_template.file={config.file}"
    given = _read(typed_path(config.file), where=where)
    named = given.pop("model_name", None)
    if named is not None and named not in known_templates:
        if given.get("capability") != "completion" and not (given.get("user") or given.get("assistant")):
            known = way_out(named, known_templates, kind="templates")
            raise ConfigError(
                [f"{where}: `model_name` is {named!r}, and neither `user` nor `assistant` is said: {known}"]
            )
        given = dict.fromkeys(_TEXTS, "") | given
    name = named if named in known_templates else config.name
    stop_words = given.pop("stop_words", None) or []
    mine = {key: value for key, value in given.items() if _is_open(config, key)}
    return replace(config, file=None, name=name, stop_words=[*stop_words, *config.stop_words], **mine)


def replaced_words(config: ChatTemplateConfig) -> dict[str, str]:
    """Return the words that the config replaces, by name."""
    return {name: value for name in WORDS if (value := getattr(config, name)) is not None}


def _is_open(config: ChatTemplateConfig, key: str) -> bool:
    default = "chat" if key == "capability" else None
    return bool(getattr(config, key) == default)


def _read(path: Path, *, where: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            [f"{where}: cannot be read as JSON ({error}); write an object of fields"]
        ) from error
    if not isinstance(found, dict):
        raise ConfigError([f"{where}: must be an object of fields, as " + '{"user": "..."}'])
    faults = [
        f"{where}: unknown field `{key}`: known are {', '.join(f'`{name}`' for name in _KNOWN)}"
        for key in found
        if key not in _KNOWN
    ]
    for key, value in found.items():
        if key in ("model_name", *_TEXTS) and not (value is None or isinstance(value, str)):
            faults.append(f"{where}: `{key}` is {value!r}: must be a text or null")
    if found.get("capability") not in (None, "chat", "completion"):
        faults.append(f"{where}: `capability` is {found['capability']!r}: must be chat or completion")
    words = found.get("stop_words") or []
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        faults.append(f"{where}: `stop_words` is {words!r}: must be a list of texts")
    if faults:
        raise ConfigError(faults)
    assert {name.name for name in fields(ChatTemplateConfig)} >= set(_KNOWN) - {"model_name"}, "all are keys"
    return {key: value for key, value in found.items() if value is not None}
