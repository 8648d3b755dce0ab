"""Vocabularies of tokens and their ranks, a line each, as tiktoken reads them: GLM-4's `tokenizer.model`.

A line is the token's bytes in base64 and its rank, which is its id. Two neighbours in a word merge if what
they make has a rank, the lowest first.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from deployer.prompt.byte_level import byte_of_character
from deployer.prompt.control_tokens import read_control_tokens
from deployer.prompt.json_tokenizer import JsonTokenizer
from engines.errors import CheckpointError

# How GLM-4 cuts a text into words: `pat_str` of its tokenization_chatglm.py.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CLASS = "ChatGLM4Tokenizer"


def has_ranks(path: Path) -> bool:
    """Return whether a `tokenizer.model` holds ranks, not a SentencePiece model."""
    with path.open("rb") as file:
        return _parsed(file.readline(256)) is not None


def load_rank_tokenizer(folder: Path) -> JsonTokenizer:
    """Return the tokenizer of a checkpoint folder. Raises CheckpointError."""
    path, control = folder / "tokenizer.model", read_control_tokens(folder)
    if control.tokenizer_class != _CLASS:
        raise CheckpointError(
            f"tokenizer_class `{control.tokenizer_class}` ({folder / 'tokenizer_config.json'}): with ranks "
            f"in `tokenizer.model` it must be {_CLASS}; convert the vocabulary to `tokenizer.json`"
        )
    ranks = _ranks(path)
    letter_of = {byte: letter for letter, byte in byte_of_character().items()}
    written = {token: "".join(letter_of[byte] for byte in token) for token in ranks}
    library = Tokenizer(
        models.BPE(
            vocab={written[token]: rank for token, rank in ranks.items()},
            merges=[(written[left], written[right]) for left, right in _merges(ranks)],
            ignore_merges=True,
        )
    )
    words: Any = pre_tokenizers
    library.pre_tokenizer = words.Sequence(
        [
            words.Split(Regex(_WORDS), behavior="isolated"),
            words.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    return JsonTokenizer(library, control, source=str(path))


def _ranks(path: Path) -> dict[bytes, int]:
    ranks = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        entry = _parsed(line)
        if line and entry is None:
            raise CheckpointError(
                f"{path}, line {number}: must be a token in base64 and its rank; fetch the checkpoint again"
            )
        if entry is not None:
            ranks[entry[0]] = entry[1]
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise CheckpointError(
            f"{path}: must hold every byte as a token, {len(missing)} are missing; fetch the checkpoint again"
        )
    return ranks


def _merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Return every pair of tokens that makes a token, in the order of what they make."""
    merges: list[tuple[bytes, bytes]] = []
    for token in sorted(ranks, key=ranks.__getitem__):
        pairs = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [pair for pair in pairs if pair[0] in ranks and pair[1] in ranks]
        merges += sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    return merges


def _parsed(line: bytes) -> tuple[bytes, int] | None:
    """Return token and rank of a line; None where it is none."""
    encoded, _, rank = line.strip().partition(b" ")
    if not encoded or not rank.isdigit():
        return None
    try:
        return base64.b64decode(encoded, validate=True), int(rank)
    except binascii.Error:
        return None
