"""Text to token ids and ids to bytes: the interface, and which implementation reads a folder.

`sentencepiece_tokenizer.py` reads tokenizer.model, `rank_tokenizer.py` one that holds ranks or qwen.tiktoken,
`json_tokenizer.py` tokenizer.json or vocab.json + merges.txt. Every token has bytes of its own, so that a
text is the bytes of its tokens put together: `detokenize.py` relies on it.
"""

import codecs
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from engines.errors import CheckpointError


class Tokenizer(Protocol):
    """One model's vocabulary. Instances are immutable and may be used from several threads."""

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        ...

    @property
    def bos_id(self) -> int | None:
        """The id that opens a prompt, where the vocabulary has one."""
        ...

    @property
    def eos_id(self) -> int | None:
        """The id that ends a text, where the vocabulary has one."""
        ...

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that steer the model and are no part of a text: bos, eos, turn marks, image marks."""
        ...

    @property
    def drops_first_space(self) -> bool:
        """Whether a text loses the space that its first token starts with, since encoding put it there."""
        ...

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of `text`; `special` adds what the model wants around a prompt, usually bos.

        Control tokens that stand in the text become their ids either way.
        """
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes the token adds to a text, a control token its name; b"" beyond the vocabulary."""
        ...

    def ids_of(self, data: bytes) -> list[int]:
        """Return the ids of ordinary tokens whose bytes are exactly `data`."""
        ...

    def token_to_id(self, token: str) -> int | None:
        """Return the id of the token that is written like this in the vocabulary."""
        ...


def decode(tokenizer: Tokenizer, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
    """Return the text of `ids`; the bytes of a last character that is not complete are left out.

    Bytes that can never become UTF-8 are replaced by U+FFFD.
    """
    skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
    data = b"".join(tokenizer.token_bytes(token_id) for token_id in ids if token_id not in skipped)
    if tokenizer.drops_first_space:
        data = data.removeprefix(b" ")
    return codecs.utf_8_decode(data, "replace", False)[0]


def load_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of a checkpoint folder.

    tokenizer.model comes before tokenizer.json where both lie there: the families with a SentencePiece
    vocabulary were trained with it, and the JSON file is a conversion. Raises CheckpointError where there is
    none or it cannot be read.
    """
    from deployer.prompt.json_tokenizer import JsonTokenizer
    from deployer.prompt.rank_tokenizer import GLM4, QWEN, has_ranks, load_rank_tokenizer
    from deployer.prompt.sentencepiece_tokenizer import SentencePieceTokenizer

    if (folder / "tokenizer.model").is_file():
        if has_ranks(folder / "tokenizer.model"):
            return load_rank_tokenizer(folder, GLM4)
        return SentencePieceTokenizer.load(folder)
    if (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file():
        return JsonTokenizer.load(folder)
    if (folder / QWEN.file).is_file():
        return load_rank_tokenizer(folder, QWEN)
    raise CheckpointError(
        f"no tokenizer in {folder}: one of `tokenizer.json`, `tokenizer.model`, `vocab.json` with "
        f"`merges.txt`, `{QWEN.file}` must lie there"
    )
