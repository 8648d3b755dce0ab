"""What ends an answer: ids the engine looks for, and strings that are looked for in the text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployer.prompt.control_tokens import read_json
from deployer.prompt.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRules:
    """Stop words that are one control token are ids; all others are strings, whatever their tokens."""

    eos_token_ids: tuple[int, ...]  # of the checkpoint and of the template; obey ignore_eos
    stop_token_ids: tuple[int, ...]  # of chat_template.stop_words; end an answer always
    words: tuple[str, ...]


def stop_rules(
    folder: Path, tokenizer: Tokenizer, *, template_words: Sequence[str], config_words: Sequence[str]
) -> StopRules:
    """Return what checkpoint, template and `chat_template.stop_words` say. Raises CheckpointError."""
    eos = set(_checkpoint_eos(folder))
    if tokenizer.eos_id is not None:
        eos.add(tokenizer.eos_id)
    from_template, template_strings = _split(template_words, tokenizer)
    from_config, config_strings = _split(config_words, tokenizer)
    return StopRules(
        eos_token_ids=tuple(sorted(eos | from_template)),
        stop_token_ids=tuple(sorted(from_config)),
        words=tuple(dict.fromkeys([*template_strings, *config_strings])),
    )


def _checkpoint_eos(folder: Path) -> list[int]:
    """Return `eos_token_id` of generation_config.json, config.json and its language model's section."""
    config = read_json(folder / "config.json")
    sections = [read_json(folder / "generation_config.json"), config]
    sections += [
        section for key in ("llm_config", "text_config") if isinstance(section := config.get(key), dict)
    ]
    ids: list[int] = []
    for section in sections:
        value: Any = section.get("eos_token_id")
        ids += (
            [value] if isinstance(value, int) else [entry for entry in value or () if isinstance(entry, int)]
        )
    return ids


def _split(words: Sequence[str], tokenizer: Tokenizer) -> tuple[set[int], list[str]]:
    """Return the ids of words that are one control token, and the other words."""
    ids: set[int] = set()
    strings = []
    for word in words:
        token_id = tokenizer.token_to_id(word)
        if token_id is not None and token_id in tokenizer.special_ids:
            ids.add(token_id)
        elif word:
            strings.append(word)
    return ids, strings
