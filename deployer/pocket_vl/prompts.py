"""Conversations as token ids, in the layout of the chat template that the model is served with
(internvl2-internlm2).

    <s> [<|im_start|>system\\n S <|im_end|>] <|im_start|>user\\n <img> rows </img>\\n Q <|im_end|>
    <|im_start|>assistant\\n A <|im_end|> <|im_start|>user\\n Q <|im_end|> ...

Training needs a prefix, shared by all conversations about one picture, and the turns after it; both are
encoded piece by piece, which gives the same ids as encoding the whole string.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from tokenizers import Tokenizer

from deployer.pocket_vl.turns import KINDS, Turn
from deployer.pocket_vl.vocabulary import BOS, IMAGE_END, IMAGE_ROW, IMAGE_START, TURN_END, TURN_START

# What the model may find as its system text; it must answer alike with any and with none.
SYSTEM_TEXTS = (
    "Answer questions about the picture.",
    "You are a helpful assistant.",
    "You answer questions about pictures.",
    "Answer briefly.",
    "You are pocket_vl.",
    "You are a helpful vision assistant. Answer in a few words.",
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。",  # noqa: E501
)
_NO_SYSTEM = 0.35
_REMEMBERED = 1 << 16  # encoded texts
_SYSTEM_WEIGHTS = (40, 12, 4, 4, 2, 2, 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnIds:
    """One conversation's tokens after the prefix."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]  # in the loss: 0 but for answers, `<|im_end|>` included
    kinds: tuple[int, ...]  # index into KINDS of the question that each token belongs to


class PromptCoder:
    """Encodes the pieces of a prompt."""

    def __init__(self, tokenizer: Tokenizer, *, rows_per_tile: int) -> None:
        # Most questions come again: there are fewer than the pictures of a minute.
        self.encode = lru_cache(maxsize=_REMEMBERED)(self._encoded)
        self._tokenizer = tokenizer
        self._rows_per_tile = rows_per_tile
        self.row_id = _id(tokenizer, IMAGE_ROW)
        self.end_id = _id(tokenizer, TURN_END)
        self._user = self.encode(f"{TURN_START}user\n")
        self._assistant = self.encode(f"{TURN_END}{TURN_START}assistant\n")

    def _encoded(self, text: str) -> tuple[int, ...]:
        """Return ids of a text that stands somewhere inside a prompt."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids."""
        return str(self._tokenizer.decode(list(ids)))

    def opening(self, system: str) -> tuple[int, ...]:
        """Return everything before the first user turn's content; `""`: no system turn."""
        turn = f"{TURN_START}system\n{system}{TURN_END}" if system else ""
        return (*self.encode(BOS + turn), *self._user)

    def picture(self, num_tiles: int) -> tuple[int, ...]:
        """Return a picture's slot."""
        rows = (self.row_id,) * (self._rows_per_tile * num_tiles)
        return (*self.encode(IMAGE_START), *rows, *self.encode(IMAGE_END + "\n"))

    def question(self, text: str) -> tuple[int, ...]:
        """Return a user turn's text and the opening of the answer."""
        return (*self.encode(text), *self._assistant)

    def turns(self, turns: Sequence[Turn]) -> TurnIds:
        """Return a conversation from the first question on."""
        ids: list[int] = []
        weights: list[float] = []
        kinds: list[int] = []
        for number, turn in enumerate(turns):
            asked = (*(self._user if number else ()), *self.question(turn.question))
            said = (*self.encode(turn.answer), self.end_id)
            ids += [*asked, *said]
            # An answer counts as the root of its length: a description is no more than a few short answers.
            weights += [0.0] * len(asked) + [len(said) ** -0.5] * len(said)
            kinds += [KINDS.index(turn.kind)] * (len(asked) + len(said))
        return TurnIds(ids=tuple(ids), weights=tuple(weights), kinds=tuple(kinds))


def _id(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    assert number is not None, f"`{token}` is in every vocabulary of ours"
    return number


def random_system(rng: Random) -> str:
    """Return a system text, or "" for none."""
    if rng.random() < _NO_SYSTEM:
        return ""
    return rng.choices(SYSTEM_TEXTS, _SYSTEM_WEIGHTS)[0]
