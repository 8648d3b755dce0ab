"""The strings that pictures print: common words, numbers, prices, codes and made-up words."""

from random import Random

from deployer.pocket_vl.words import TWIN_LETTERS, is_held_out, readable_words

_WORDS = readable_words()
_HELD_OUT_WORDS = tuple(word for word in _WORDS if is_held_out("word", word))
_TRAINED_WORDS = tuple(word for word in _WORDS if not is_held_out("word", word))

# Letters that no font draws like another character of the same string's alphabet.
_CAPITALS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_SMALL = "abcdefghijkmnopqrstuvwxyz"
_TALL_SMALL = "bdfhkt"
_CODE_DIGITS = "23456789"
_PLAIN_LETTERS = "abcdefghjkmnpqrstuvwxyz"


def printed_string(rng: Random, *, held_out: bool) -> str:
    """Return one printed string; `held_out` takes words and numbers that training never shows."""
    if held_out:
        word = _cased(rng, rng.choice(_HELD_OUT_WORDS))
        return word if rng.random() < 0.6 else _number(rng, held_out=True)
    makers = (_word, _trained_number, _figure, _made_up, _misprint, _two_words)
    return rng.choices(makers, (40, 24, 6, 12, 12, 6))[0](rng)


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


def _two_words(rng: Random) -> str:
    first, second = rng.choice(_TRAINED_WORDS), rng.choice(_TRAINED_WORDS)
    case = rng.choice((str.upper, str.upper, str.lower, str.title))
    last = case(second) if rng.random() < 0.85 else _trained_number(rng)
    return case(first) + rng.choice((" ", " ", "\n")) + last


def _cased(rng: Random, word: str) -> str:
    roll = rng.random()
    if roll < 0.50:
        return word.upper()
    return word.capitalize() if roll < 0.72 else word


def _number(rng: Random, *, held_out: bool) -> str:
    while True:
        digits = rng.choices((1, 2, 3, 4, 5, 6), (24, 28, 22, 14, 7, 5))[0]
        number = "".join(rng.choice("0123456789") for _ in range(digits))
        # Single digits are all shown in training: there are only ten.
        if (number[0] != "0" or digits == 1) and (digits == 1 or is_held_out("number", number) == held_out):
            if held_out and digits == 1:
                continue
            return number


def _figure(rng: Random) -> str:
    """Prices, times, percentages, codes."""
    number = _number(rng, held_out=False)[:3]
    return rng.choice(
        (
            f"${number}",
            f"{number}%",
            f"{rng.randrange(1, 24)}:{rng.randrange(60):02d}",
            f"{rng.randrange(1, 100)}.{rng.randrange(100):02d}",
            f"{rng.choice(_CAPITALS)}{rng.randrange(1, 100)}",
            f"{rng.choice(_CAPITALS)}-{rng.randrange(1, 100)}",
        )
    )


def _made_up(rng: Random) -> str:
    length = rng.choices((1, 2, 3, 4, 5, 6, 7), (16, 18, 20, 18, 14, 8, 6))[0]
    roll = rng.random()
    if roll < 0.60 or length == 1:
        pool = _CAPITALS.translate(str.maketrans("", "", "COSVWXZ")) if length == 1 else _CAPITALS
        return "".join(rng.choice(pool) for _ in range(length))
    if roll < 0.75:
        return "".join(rng.choice(_CAPITALS + _CODE_DIGITS) for _ in range(length))
    letters = [rng.choice(_SMALL) for _ in range(length)]
    letters[rng.randrange(length)] = rng.choice(_TALL_SMALL)  # something that shows the case
    return "".join(letters)
