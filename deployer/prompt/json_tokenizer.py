"""Tokenizers of a `tokenizer.json`, or of `vocab.json` with `merges.txt` (Qwen2, GPT-2)."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken as LibraryToken
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from deployer.prompt.byte_level import byte_of_character
from deployer.prompt.control_tokens import ControlTokens, read_control_tokens, read_json
from engines.errors import CheckpointError

_SPACE = "▁"
# How Qwen2 cuts a text into words: tokenizer.json of Qwen/Qwen2-7B-Instruct, `pre_tokenizer`.
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class JsonTokenizer:
    """A vocabulary that the `tokenizers` library runs."""

    def __init__(self, library: Tokenizer, control: ControlTokens, *, source: str) -> None:
        """`source` names the vocabulary in messages. Raises CheckpointError."""
        library.no_padding()
        library.no_truncation()
        _add(library, control, source)
        self._library = library
        self._writing = _Writing.of(library, source)
        self.drops_first_space = self._writing.drops_first_space
        self._added = {
            token_id: token.content for token_id, token in library.get_added_tokens_decoder().items()
        }
        self.special_ids = frozenset(
            token_id for token_id, token in library.get_added_tokens_decoder().items() if token.special
        )
        self.vocab_size = max(library.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.bos_id = None if control.bos is None else library.token_to_id(control.bos)
        self.eos_id = None if control.eos is None else library.token_to_id(control.eos)
        self._add_bos = control.add_bos  # None: as the file's own post-processor does
        self._bytes: dict[int, bytes] = {}

    @classmethod
    def load(cls, folder: Path) -> "JsonTokenizer":
        """Return the tokenizer of a checkpoint folder. Raises CheckpointError."""
        control = read_control_tokens(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            return cls(_from_merges(folder, control), control, source=str(folder / "vocab.json"))
        try:
            library = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for a file it cannot read
            read_json(path)  # says where a file is broken that is no JSON
            raise CheckpointError(
                f"{path} is no vocabulary that `tokenizers` reads: {error}; fetch the checkpoint again"
            ) from error
        return cls(library, control, source=str(path))

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of `text`; `special` adds what the checkpoint wants around a prompt."""
        if self._add_bos is None:
            return list(self._library.encode(text, add_special_tokens=special).ids)
        ids = list(self._library.encode(text, add_special_tokens=False).ids)
        return [self.bos_id, *ids] if special and self._add_bos and self.bos_id is not None else ids

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes the token adds to a text."""
        data = self._bytes.get(token_id)
        if data is None:
            data = self._bytes[token_id] = self._write(token_id)
        return data

    def ids_of(self, data: bytes) -> list[int]:
        """Return the ids of ordinary tokens whose bytes are exactly `data`."""
        ids = [self._library.token_to_id(name) for name in self._writing.names(data)]
        return [token_id for token_id in ids if token_id is not None and token_id not in self._added]

    def token_to_id(self, token: str) -> int | None:
        """Return the id of the token that is written like this in the vocabulary."""
        return self._library.token_to_id(token)

    def _write(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        token = self._library.id_to_token(token_id) if token_id >= 0 else None
        return b"" if token is None else self._writing.to_bytes(token)


class _Writing:
    """How a vocabulary writes bytes, told by the `decoder` of its file."""

    def __init__(self, *, byte_level: bool, byte_fallback: bool, drops_first_space: bool) -> None:
        self.drops_first_space = drops_first_space
        self._letters = byte_of_character() if byte_level else {}
        self._letter_of = {byte: letter for letter, byte in self._letters.items()}
        self._byte_fallback = byte_fallback

    @classmethod
    def of(cls, library: Tokenizer, source: str) -> "_Writing":
        decoder = json.loads(library.decoder.__getstate__()) if library.decoder is not None else None
        steps = decoder["decoders"] if decoder and decoder["type"] == "Sequence" else [decoder]
        kinds = {step["type"]: step for step in steps if step}
        unknown = sorted(
            kinds.keys() - {"ByteLevel", "ByteFallback", "Fuse", "Metaspace", "Replace", "Strip"}
        )
        if unknown or not kinds.keys() & {"ByteLevel", "Metaspace", "Replace"}:
            found = ", ".join(f"`{kind}`" for kind in unknown) or "none"
            raise CheckpointError(
                f"decoder of {source} ({found}): must be byte-level or SentencePiece-like "
                "(ByteLevel, Metaspace, Replace with ByteFallback, Fuse and Strip)"
            )
        return cls(
            byte_level="ByteLevel" in kinds,
            byte_fallback="ByteFallback" in kinds,
            drops_first_space="Strip" in kinds
            or kinds.get("Metaspace", {}).get("prepend_scheme", "never") != "never",
        )

    def to_bytes(self, token: str) -> bytes:
        """Return what a token of the vocabulary, not an added one, stands for."""
        if self._letters:
            known = all(character in self._letters for character in token)
            return bytes(self._letters[character] for character in token) if known else token.encode()
        if self._byte_fallback and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes([int(token[1:-1], 16)])
        return token.replace(_SPACE, " ").encode()

    def names(self, data: bytes) -> list[str]:
        """Return the tokens that would write `data`, whether or not the vocabulary has them."""
        if self._letters:
            return ["".join(self._letter_of[byte] for byte in data)]
        names = [f"<0x{data[0]:02X}>"] if self._byte_fallback and len(data) == 1 else []
        try:
            return [*names, data.decode().replace(" ", _SPACE)]
        except UnicodeDecodeError:
            return names  # part of a character: only a byte piece can write it


def _from_merges(folder: Path, control: ControlTokens) -> Tokenizer:
    """Return the byte-level BPE of `vocab.json` and `merges.txt`, words cut as the tokenizer's class does."""
    try:
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:  # the library raises bare Exception for a file it cannot read
        raise CheckpointError(
            f"`vocab.json` and `merges.txt` in {folder} are not a vocabulary: {error}; "
            "fetch the checkpoint again"
        ) from error
    library = Tokenizer(model)
    library.decoder = decoders.ByteLevel()
    words: Any = pre_tokenizers
    kind = (control.tokenizer_class or "").removesuffix("Fast")
    if kind == "Qwen2Tokenizer":
        library.normalizer = normalizers.NFC()
        library.pre_tokenizer = words.Sequence(
            [
                words.Split(Regex(_QWEN2_WORDS), behavior="isolated"),
                words.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    elif kind == "GPT2Tokenizer":
        library.pre_tokenizer = words.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        raise CheckpointError(
            f"tokenizer_class `{control.tokenizer_class}` ({folder / 'tokenizer_config.json'}): with "
            "`vocab.json` it must be GPT2Tokenizer or Qwen2Tokenizer; convert it to `tokenizer.json`"
        )
    return library


def _add(library: Tokenizer, control: ControlTokens, source: str) -> None:
    """Add the control tokens that the vocabulary's file lacks, each at the id of the checkpoint."""
    present = library.get_added_tokens_decoder()
    wrong = []
    for token_id, token in sorted(control.added.items()):
        if token_id in present:
            continue
        library.add_tokens(
            [
                LibraryToken(
                    token.content,
                    special=token.special,
                    lstrip=token.strips_left,
                    rstrip=token.strips_right,
                    normalized=False,
                )
            ]
        )
        if library.token_to_id(token.content) != token_id:
            wrong.append(f"`{token.content}` at {token_id}, not {library.token_to_id(token.content)}")
    named = [content for content in control.unplaced if library.token_to_id(content) is not None]
    library.add_special_tokens(named)
    if wrong:
        raise CheckpointError(
            f"control tokens do not fit the vocabulary of {source}: {'; '.join(wrong)}; "
            "fetch the checkpoint again"
        )
