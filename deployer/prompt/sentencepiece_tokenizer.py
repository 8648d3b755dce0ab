"""Tokenizers of a SentencePiece `tokenizer.model`: InternLM2, Llama 1 and 2, Yi, Phi-3.

The slow tokenizers of the model releases are the reference: control tokens are cut out of the text first,
then each stretch between them is encoded on its own. `legacy: false` (Phi-3) puts the opening space in front
of the whole text only.
"""

import re
from contextlib import suppress
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from deployer.prompt.control_tokens import AddedToken, ControlTokens, read_control_tokens
from engines.errors import CheckpointError

_SPACE = "▁"
# Appended to a serialised model, this merges `normalizer_spec.add_dummy_prefix = false` into it: in protobuf
# a message field that comes twice is merged, the later value wins. Field numbers: google/sentencepiece,
# sentencepiece_model.proto.
_NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"


class SentencePieceTokenizer:
    """A SentencePiece vocabulary with control tokens on top."""

    def __init__(self, model: bytes, control: ControlTokens, *, source: str) -> None:
        """`source` names the model in messages. Raises CheckpointError."""
        try:
            pieces = SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise CheckpointError(
                f"{source} is not a SentencePiece model: fetch the checkpoint again"
            ) from error
        self.drops_first_space = _opens_with_space(pieces)
        self._opens_whole_text = self.drops_first_space and not control.legacy
        if self._opens_whole_text:
            pieces = SentencePieceProcessor(model_proto=model + _NO_DUMMY_PREFIX)
        self._pieces = pieces
        self._lone_space = pieces.piece_to_id(_SPACE)
        self._added = _place(control, pieces, source)
        self._ids = {token.content: token_id for token_id, token in self._added.items()}
        self._named = {self._ids[content] for content in control.named}
        self._cut = re.compile("|".join(re.escape(text) for text in sorted(self._ids, key=len, reverse=True)))
        self.vocab_size = max([len(pieces) - 1, *self._added]) + 1
        self.bos_id = self._ids[control.bos] if control.bos is not None else _optional(pieces.bos_id())
        self.eos_id = self._ids[control.eos] if control.eos is not None else _optional(pieces.eos_id())
        controls = {token_id for token_id in range(len(pieces)) if pieces.is_control(token_id)}
        self.special_ids = frozenset(
            controls | {token_id for token_id, token in self._added.items() if token.special}
        )
        self._prefix = [self.bos_id] if control.add_bos is not False and self.bos_id is not None else []
        self._suffix = [self.eos_id] if control.add_eos and self.eos_id is not None else []

    @classmethod
    def load(cls, folder: Path) -> "SentencePieceTokenizer":
        """Return the tokenizer of a checkpoint folder. Raises CheckpointError."""
        path = folder / "tokenizer.model"
        return cls(path.read_bytes(), read_control_tokens(folder), source=str(path))

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of `text`; `special` adds bos and eos where the checkpoint wants them."""
        if self._opens_whole_text and text:
            text = _SPACE + text.replace(_SPACE, " ")
        ids: list[int] = []
        for stretch in self._stretches(text):
            ids += [stretch] if isinstance(stretch, int) else self._pieces.encode(stretch, out_type=int)
        if self._opens_whole_text and ids[:1] == [self._lone_space] and ids[1:2] and ids[1] in self._named:
            del ids[0]  # the opening space is not put in front of bos and its like
        return [*self._prefix, *ids, *self._suffix] if special else ids

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes the token adds to a text."""
        if token_id in self._added:
            return self._added[token_id].content.encode()
        if not 0 <= token_id < len(self._pieces):
            return b""
        piece = self._pieces.id_to_piece(token_id)
        if self._pieces.is_byte(token_id):
            return bytes([int(piece[1:-1], 16)])  # "<0xE4>"
        return piece.replace(_SPACE, " ").encode()

    def ids_of(self, data: bytes) -> list[int]:
        """Return the ids of ordinary tokens whose bytes are exactly `data`."""
        names = [f"<0x{data[0]:02X}>"] if len(data) == 1 else []
        with suppress(UnicodeDecodeError):  # part of a character: only a byte piece can write it
            names.append(data.decode().replace(" ", _SPACE))
        ids = dict.fromkeys(self._pieces.piece_to_id(name) for name in names)
        return [
            token_id for token_id in ids if self.token_bytes(token_id) == data and token_id not in self._added
        ]

    def token_to_id(self, token: str) -> int | None:
        """Return the id of the token that is written like this in the vocabulary."""
        if token in self._ids:
            return self._ids[token]
        token_id = self._pieces.piece_to_id(token)
        return None if self._pieces.is_unknown(token_id) else token_id

    def _stretches(self, text: str) -> list[str | int]:
        """Return text and control tokens in turn, white space beside a token that swallows it taken away."""
        if not self._ids:
            return [text]
        stretches: list[str | int] = []
        position, strip = 0, False
        for match in self._cut.finditer(text):
            token_id = self._ids[match.group()]
            before = text[position : match.start()]
            before = before.lstrip() if strip else before
            stretches += [before.rstrip() if self._added[token_id].strips_left else before, token_id]
            position, strip = match.end(), self._added[token_id].strips_right
        stretches.append(text[position:].lstrip() if strip else text[position:])
        return [stretch for stretch in stretches if stretch != ""]


def _opens_with_space(pieces: SentencePieceProcessor) -> bool:
    """Whether the model puts a space in front of a text (`add_dummy_prefix`)."""
    return str(pieces.encode("a", out_type=str)[0]).startswith(_SPACE)


def _place(control: ControlTokens, pieces: SentencePieceProcessor, source: str) -> dict[int, AddedToken]:
    """Return every control token by id, those that the files only name looked up among the pieces."""
    added = dict(control.added)
    missing = []
    for content in control.unplaced:
        token_id = pieces.piece_to_id(content)
        if pieces.is_unknown(token_id) and content != pieces.id_to_piece(token_id):
            missing.append(content)
        else:
            added[token_id] = AddedToken(content=content, special=True)
    if missing:
        names = ", ".join(f"`{content}`" for content in sorted(missing))
        raise CheckpointError(
            f"control tokens without an id: {names} ({source} and the JSON files beside it): "
            "`added_tokens.json` or `added_tokens_decoder` must place them"
        )
    return added


def _optional(token_id: int) -> int | None:
    """SentencePiece says -1 for a token that the model does not have."""
    return token_id if token_id >= 0 else None
