"""Questions about printed text, each right by construction."""

from itertools import pairwise
from random import Random

from deployer.pocket_vl import phrases, reading_wordings
from deployer.pocket_vl.scene import Item, Scene, Text
from deployer.pocket_vl.turns import Turn
from deployer.pocket_vl.typing_manner import vary


def read(rng: Random, scene: Scene) -> Turn | None:
    """What does the sign say?"""
    if not scene.texts:
        return None
    if len(scene.texts) > 1:
        return _one_of_several(rng, scene)
    text = scene.texts[0]
    pool = [reading_wordings.READ_ANY, reading_wordings.READ]
    if text.host is not None:
        pool.append(reading_wordings.READ)
        if rng.random() < 0.35 and (turn := _on_its_shape(rng, scene, text)) is not None:
            return turn
    if text.noun != "text":
        pool.append(reading_wordings.READ_WORD if text.noun == "word" else reading_wordings.READ_NUMBER)
    question = rng.choice(rng.choice(pool)).format(noun=rng.choice(("sign", "sign", "board", "label")))
    return _turn(rng, question, text)


def _one_of_several(rng: Random, scene: Scene) -> Turn | None:
    """A text among others is meant by its colour, place or shape; few are read one after the other."""
    text = rng.choice(scene.texts)
    roll = rng.random()
    if roll < 0.25 and text.host is not None:
        return _on_its_shape(rng, scene, text)
    if roll < 0.4 and len(scene.texts) <= 3:
        return _all(rng, scene)
    if roll < 0.6:
        return _at_the_edge(rng, scene)
    return _by_colour(rng, scene, text)


def _on_its_shape(rng: Random, scene: Scene, text: Text) -> Turn | None:
    assert text.host is not None, "asked for texts on a shape"
    names = phrases.names_of(scene, Item(shape=scene.shapes[text.host], text=None))
    if not names:
        return None
    return _turn(rng, rng.choice(reading_wordings.READ_ON).format(the=f"the {rng.choice(names)}"), text)


def _by_colour(rng: Random, scene: Scene, text: Text) -> Turn | None:
    if not phrases.text_names(scene, text):
        return None
    noun = "text" if text.noun == "text" else rng.choice(("text", text.noun))
    colour = phrases.written_colour(rng, text.colour)
    return _turn(rng, rng.choice(reading_wordings.READ_COLOURED).format(colour=colour, noun=noun), text)


def _at_the_edge(rng: Random, scene: Scene) -> Turn | None:
    ranked = _from_the_top(scene)
    if ranked is None:
        return None
    top = rng.random() < 0.5
    question = rng.choice(reading_wordings.READ_TOP if top else reading_wordings.READ_BOTTOM)
    return _turn(rng, question, ranked[0] if top else ranked[-1])


def _all(rng: Random, scene: Scene) -> Turn | None:
    ranked = _from_the_top(scene)
    if ranked is None:
        return None
    answer = phrases.listed([text.spoken for text in ranked])
    return Turn(
        kind="read_word",
        question=vary(rng, rng.choice(reading_wordings.READ_ANY)),
        answer=answer,
    )


def _from_the_top(scene: Scene) -> list[Text] | None:
    """Return the texts in lines from the top; None where two stand beside each other."""
    ranked = sorted(scene.texts, key=lambda text: text.box.cy)
    if any(low.box.y0 < high.box.y1 for high, low in pairwise(ranked)):
        return None
    return ranked


def _turn(rng: Random, question: str, text: Text) -> Turn:
    focus = Item(shape=None, text=text) if text.host is None else None
    kind = "read_number" if text.noun == "number" else "read_word"
    return Turn(kind=kind, question=vary(rng, question), answer=text.spoken, focus=focus)
