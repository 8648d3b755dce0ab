"""How things are named in questions and answers."""

from random import Random

from deployer.pocket_vl.scene import Item, Scene, Shape, Text
from deployer.pocket_vl.words import PLURALS


def a_shape(shape: Shape) -> str:
    """Return `a red circle`."""
    return f"{article(shape.colour)} {shape.colour} {shape.kind}"


def a_thing(item: Item) -> str:
    """Return `a red circle`, `the word STOP`, `the number 42`."""
    if item.shape is not None:
        return a_shape(item.shape)
    assert item.text is not None, "an item is a shape or a text"
    return the_text(item.text)


def the_text(text: Text) -> str:
    """Return `the word STOP`, `the number 42` or `the text A-7`."""
    return f"the {text.noun} {text.spoken}"


def article(word: str) -> str:
    """Return `a` or `an`."""
    return "an" if word[0] in "aeiou" else "a"


def plural(kind: str) -> str:
    """Return the plural of a shape or of any regular noun."""
    return PLURALS.get(kind) or (kind + "es" if kind.endswith(("s", "x", "ch", "sh")) else kind + "s")


def listed(parts: list[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def written_colour(rng: Random, colour: str) -> str:
    """Return the colour in either spelling."""
    return rng.choice(("gray", "grey")) if colour == "gray" else colour


def names_of(scene: Scene, item: Item) -> list[str]:
    """Return the nouns after `the` that mean this item and no other in the scene."""
    if item.shape is None:
        assert item.text is not None, "an item is a shape or a text"
        return text_names(scene, item.text)
    shape = item.shape
    names = []
    if sum(other.kind == shape.kind for other in scene.shapes) == 1:
        names += [shape.kind, shape.kind]
    if sum(other.kind == shape.kind and other.colour == shape.colour for other in scene.shapes) == 1:
        names.append(f"{shape.colour} {shape.kind}")
    if sum(other.colour == shape.colour for other in scene.shapes) == 1:
        names.append(f"{shape.colour} {'shape' if len(names) % 2 else 'object'}")
    return names


def text_names(scene: Scene, text: Text) -> list[str]:
    """Return the nouns that mean this text alone: `sign` where it is the only one, else its colour."""
    nouns = ["text", text.noun] if text.noun != "text" else ["text"]
    if len(scene.texts) == 1:
        return [*nouns, "sign"]
    if sum(other.colour == text.colour for other in scene.texts) > 1:
        return []
    return [f"{text.colour} {noun}" for noun in nouns]
