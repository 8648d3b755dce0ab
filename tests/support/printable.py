"""A vocabulary of single printable characters: grammars over the ids that the tiny engine chooses from."""

from engines.messages import Vocabulary

END_ID = 0
_CHARACTERS = "".join(chr(code) for code in range(32, 127) if chr(code) not in "!#$@^`~")
PRINTABLE = Vocabulary(
    tokens=(b"<end>", *(character.encode() for character in _CHARACTERS)), special_ids=(0,), end_ids=(END_ID,)
)
SIZE = len(PRINTABLE.tokens)  # 89


def text_of(ids: list[int]) -> str:
    """Return the characters of ids, without what ends them."""
    return b"".join(PRINTABLE.tokens[token_id] for token_id in ids if token_id != END_ID).decode()


def ids_of(text: str) -> list[int]:
    """Return one id a character."""
    return [_CHARACTERS.index(character) + 1 for character in text]
