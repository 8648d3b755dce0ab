"""Building tokenizer.json: `python -m deployer.pocket_vl.build_vocabulary FILE`.

The words are those of every wording, answer and system text; nothing that is printed in pictures.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence

from deployer.pocket_vl import absence, follow_ups, reading_wordings, typing_manner, wordings
from deployer.pocket_vl.prompts import SYSTEM_TEXTS
from deployer.pocket_vl.vocabulary import build_tokenizer
from deployer.pocket_vl.words import COLOURS, PLURALS, SHAPES, STRANGERS

SIZE = 1536
_ANSWERS = (
    "say: a red circle and an orange square with the word, the number, the text",
    "say: There is no sign. the top left, the bottom right, the middle, nothing, yes, no",
)


def texts() -> Iterator[str]:
    """Return everything that is asked and answered, without fillings."""
    for module in (wordings, reading_wordings, typing_manner, follow_ups):
        for value in vars(module).values():
            for group in value.values() if isinstance(value, dict) else (value,):
                if isinstance(group, tuple):
                    yield from (text for text in group if isinstance(text, str))
    for questions, answer in absence.SMALL_TALK:
        yield from (*questions, answer)
    yield from (absence.NO_PICTURE, absence.ONLY_PICTURES, *SYSTEM_TEXTS, *_ANSWERS)
    names = (
        *COLOURS,
        "grey",
        "color",
        *SHAPES,
        *PLURALS.values(),
        *STRANGERS,
        "shape",
        "shapes",
        "object",
        "objects",
    )
    yield from (
        f"the {name}" for name in (*names, "picture", "image", "photo", "drawing", "sign", "board", "label")
    )


def main(words: Sequence[str]) -> None:
    """Build and save it."""
    parser = ArgumentParser(prog="python -m deployer.pocket_vl.build_vocabulary")
    parser.add_argument("file", metavar="FILE", help="tokenizer.json to write")
    file = parser.parse_args(words).file
    tokenizer = build_tokenizer(texts(), size=SIZE)
    tokenizer.save(file)
    print(f"{tokenizer.get_vocab_size()} tokens in {file}")


if __name__ == "__main__":
    main(sys.argv[1:])
