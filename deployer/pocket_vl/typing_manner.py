"""How people type a question: in either spelling, with words around it, without capitals or its mark."""

from random import Random

PREFIXES = (
    "Look at the picture. ",
    "In this picture, ",
    "Please tell me: ",
    "Hi! ",
    "Hello, ",
    "Please answer: ",
    "Question: ",
    "OK, ",
)
SUFFIXES = (
    " Answer in one word.",
    " Answer with one word.",
    " Answer briefly.",
    " Please answer shortly.",
    " Answer the question using a single word or phrase.",
    " Thanks.",
    " Be brief.",
)


def vary(rng: Random, question: str) -> str:
    """Return the question in one spelling and one of the manners in which people type."""
    if "olour" in question and rng.random() < 0.5:
        question = question.replace("olour", "olor")
    elif "olor" in question and "olour" not in question and rng.random() < 0.5:
        question = question.replace("olor", "olour")
    if rng.random() < 0.06:
        question = question.replace("picture", rng.choice(("image", "photo", "drawing")))
    roll = rng.random()
    if roll < 0.06:
        question = rng.choice(PREFIXES) + question[0].lower() + question[1:]
    elif roll < 0.12:
        question += rng.choice(SUFFIXES)
    elif roll < 0.18:
        question = question[0].lower() + question[1:]
    elif roll < 0.23:
        question = question.rstrip("?.")
    elif roll < 0.28:
        question = question[0].lower() + question[1:].rstrip("?.")
    return question
