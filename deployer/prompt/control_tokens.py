"""Which tokens steer a model, read from the JSON files that lie beside a vocabulary.

`tokenizer_config.json` (`added_tokens_decoder`, `bos_token`, ...), `special_tokens_map.json` and
`added_tokens.json` say it in turn; the first that names a token wins.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import CheckpointError

_LFS_POINTER = "version https://git-lfs.github.com/"
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True, kw_only=True, slots=True)
class AddedToken:
    """A token that is cut out of a text before the vocabulary sees it."""

    content: str
    special: bool  # steers the model; not shown to a reader
    strips_left: bool = False  # swallows white space in front of it
    strips_right: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlTokens:
    """What the JSON files beside a vocabulary say."""

    added: dict[int, AddedToken]
    named: tuple[str, ...]  # bos, eos, ... and `additional_special_tokens`
    unplaced: tuple[str, ...]  # those without an id: the vocabulary itself must hold them
    bos: str | None
    eos: str | None
    add_bos: bool | None  # None: not said
    add_eos: bool | None
    legacy: bool  # Llama: whether each stretch between control tokens gets the space that opens a text
    tokenizer_class: str | None


def read_control_tokens(folder: Path) -> ControlTokens:
    """Return what `folder` says of its control tokens; every file may be absent. Raises CheckpointError."""
    config = read_json(folder / "tokenizer_config.json")
    named = {**read_json(folder / "special_tokens_map.json"), **config}
    contents = {name: text for name in _NAMED if (text := _content(named.get(name))) is not None}
    extra = [_content(entry) for entry in named.get("additional_special_tokens") or ()]
    special = dict.fromkeys([*contents.values(), *(text for text in extra if text is not None)])
    added = _added(config.get("added_tokens_decoder") or {}, folder / "tokenizer_config.json")
    placed = {token.content for token in added.values()}
    for content, token_id in read_json(folder / "added_tokens.json").items():
        if content not in placed:
            added[int(token_id)] = AddedToken(content=content, special=content in special)
    placed = {token.content for token in added.values()}
    return ControlTokens(
        added=added,
        named=tuple(special),
        unplaced=tuple(content for content in special if content not in placed),
        bos=contents.get("bos_token"),
        eos=contents.get("eos_token"),
        add_bos=config.get("add_bos_token"),
        add_eos=config.get("add_eos_token"),
        legacy=config.get("legacy") is not False,
        tokenizer_class=config.get("tokenizer_class"),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, {} where there is no such file. Raises CheckpointError."""
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith(_LFS_POINTER):
            raise CheckpointError(
                f"{path} is a Git LFS pointer, not the file: run `git lfs pull` in its folder"
            )
        value = json.loads(text)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be opened: {error.strerror}; let the user of this process read it"
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"{path} cannot be read as JSON: {error}; fetch the checkpoint again"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}: it must be an object")
    return value


def _added(entries: dict[str, Any], path: Path) -> dict[int, AddedToken]:
    added = {}
    for token_id, entry in entries.items():
        if (
            not token_id.isdecimal()
            or not isinstance(entry, dict)
            or not isinstance(entry.get("content"), str)
        ):
            raise CheckpointError(
                f"{path}: entry `{token_id}` of `added_tokens_decoder` must be an id with a `content`"
            )
        if entry.get("single_word"):
            raise CheckpointError(
                f"{path}: token `{entry['content']}` has `single_word`: must not, since no known checkpoint "
                "does; convert the vocabulary to `tokenizer.json`"
            )
        added[int(token_id)] = AddedToken(
            content=entry["content"],
            special=bool(entry.get("special")),
            strips_left=bool(entry.get("lstrip")),
            strips_right=bool(entry.get("rstrip")),
        )
    return added


def _content(entry: Any) -> str | None:
    """Return the text of a token that is written as a string or as an object."""
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else None
