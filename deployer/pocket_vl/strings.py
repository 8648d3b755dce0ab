"""The strings that pictures print: short words and numbers; in training made-up words and misprints too."""

from random import Random

from deployer.pocket_vl.words import TWIN_LETTERS, is_held_out, readable_words

_WORDS = readable_words()
_HELD_OUT_WORDS = tuple(word for word in _WORDS if is_held_out("word", word))
_TRAINED_WORDS = tuple(word for word in _WORDS if not is_held_out("word", word))

# Letters that no font draws like another character of the same string's alphabet.
_CAPITALS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_SMALL = "abcdefghijkmnopqrstuvwxyz"
_TALL_SMALL = "bdfhkt"
_PLAIN_LETTERS = "abcdefghjkmnpqrstuvwxyz"


def printed_string(rng: Random, *, held_out: bool, made_up: bool) -> str:
    """Return a word or a number; `held_out`: one that training never shows; `made_up`: or a no-word."""
    if held_out:
        word = _cased(rng, rng.choice(_HELD_OUT_WORDS))
        return word if rng.random() < 0.6 else _number(rng, held_out=True)
    makers = (_word, _trained_number, _made_up, _misprint)
    return rng.choices(makers, (48, 27, 14, 11) if made_up else (60, 40, 0, 0))[0](rng)


def _word(rng: Random) -> str:
    return _cased(rng, rng.choice(_TRAINED_WORDS))


def _trained_number(rng: Random) -> str:
    return _number(rng, held_out=False)


def _misprint(rng: Random) -> str:
    """A word with one letter changed, so that nobody can read by guessing words."""
    while True:
        letters = list(rng.choice(_TRAINED_WORDS))
        letters[rng.randrange(len(letters))] = rng.choice(_PLAIN_LETTERS)
        word = "".join(letters)
        if word not in _HELD_OUT_WORDS and set(word) - TWIN_LETTERS:
            return _cased(rng, word)


def _cased(rng: Random, word: str) -> str:
    """Return the word in capitals, in small letters or as a name; `Sun` against `sun` is left out."""
    roll = rng.random()
    if roll < 0.55:
        return word.upper()
    return word.capitalize() if roll < 0.75 and word[0] not in TWIN_LETTERS else word


def _number(rng: Random, *, held_out: bool) -> str:
    while True:
        digits = rng.choices((1, 2, 3, 4), (22, 30, 28, 20))[0]
        number = "".join(rng.choice("0123456789") for _ in range(digits))
        # Single digits are all shown in training: there are only ten.
        if (number[0] != "0" or digits == 1) and (digits == 1 or is_held_out("number", number) == held_out):
            if held_out and digits == 1:
                continue
            return number


def _made_up(rng: Random) -> str:
    length = rng.choices((1, 2, 3, 4, 5, 6), (10, 14, 22, 22, 18, 14))[0]
    if rng.random() < 0.65 or length == 1:
        pool = _CAPITALS.translate(str.maketrans("", "", "COSVWXZ")) if length == 1 else _CAPITALS
        return "".join(rng.choice(pool) for _ in range(length))
    letters = [rng.choice(_SMALL) for _ in range(length)]
    letters[rng.randrange(length)] = rng.choice(_TALL_SMALL)  # something that shows the case
    return "".join(letters)
