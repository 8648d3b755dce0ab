"""Vocabularies of tokens and their ranks, a line each, as tiktoken reads them: GLM-4's and Qwen-VL's.

A line is the token's bytes in base64 and its rank, which is its id. Two neighbours in a word merge if what
they make has a rank, the lowest first.
"""

import base64
import binascii
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from deployer.prompt.byte_level import byte_of_character
from deployer.prompt.control_tokens import AddedToken, read_control_tokens
from deployer.prompt.json_tokenizer import JsonTokenizer
from engines.errors import CheckpointError

# How a text is cut into words, with as many digits in a word as the pattern is given.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_PICTURES = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<img>", "</img>", "<imgpad>")


@dataclass(frozen=True, kw_only=True, slots=True)
class RankFormat:
    """One tokenizer class that reads ranks, and what stands in its code alone."""

    file: str
    tokenizer_class: str
    words: str
    composes: bool  # texts are brought into NFC
    control: tuple[str, ...]  # tokens behind the ranks, where no JSON file places them; the first is eos


# tokenization_chatglm.py of GLM-4, tokenization_qwen.py of Qwen-VL.
GLM4 = RankFormat(
    file="tokenizer.model",
    tokenizer_class="ChatGLM4Tokenizer",
    words=_WORDS % "{1,3}",
    composes=False,
    control=(),
)
QWEN = RankFormat(
    file="qwen.tiktoken",
    tokenizer_class="QWenTokenizer",
    words=_WORDS % "",
    composes=True,
    control=(
        *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        *(f"<|extra_{number}|>" for number in range(205)),
        *_QWEN_PICTURES,
    ),
)


def has_ranks(path: Path) -> bool:
    """Return whether a `tokenizer.model` holds ranks, not a SentencePiece model."""
    with path.open("rb") as file:
        return _parsed(file.readline(256)) is not None


def load_rank_tokenizer(folder: Path, form: RankFormat) -> JsonTokenizer:
    """Return the tokenizer of a checkpoint folder. Raises CheckpointError."""
    path, control = folder / form.file, read_control_tokens(folder)
    if control.tokenizer_class != form.tokenizer_class:
        raise CheckpointError(
            f"tokenizer_class `{control.tokenizer_class}` ({folder / 'tokenizer_config.json'}): with ranks "
            f"in `{form.file}` it must be {form.tokenizer_class}; convert the vocabulary to `tokenizer.json`"
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
    if form.composes:
        library.normalizer = normalizers.NFC()
    words: Any = pre_tokenizers
    library.pre_tokenizer = words.Sequence(
        [
            words.Split(Regex(form.words), behavior="isolated"),
            words.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    if form.control:
        own = enumerate(form.control, start=len(ranks))
        added = {token_id: AddedToken(content=content, special=True) for token_id, content in own}
        control = replace(control, added=added | control.added, eos=form.control[0])
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
