"""Questions that only make sense after another one: `What shape is it?`, `And the square?`."""

from collections.abc import Callable
from random import Random

from deployer.pocket_vl import absence, facts, phrases, wordings
from deployer.pocket_vl.facts import DIRECTIONS, Unclear
from deployer.pocket_vl.scene import Item, Scene
from deployer.pocket_vl.turns import Turn
from deployer.pocket_vl.typing_manner import vary
from deployer.pocket_vl.words import SHAPES

_COLOUR = (
    "What colour is it?",
    "Which colour is it?",
    "What is its colour?",
    "And its colour?",
    "What colour does it have?",
)
_SHAPE = (
    "What shape is it?",
    "Which shape is it?",
    "What is its shape?",
    "What shape does it have?",
    "And its shape?",
)
_WHERE = ("Where is it?", "Where in the picture is it?", "Where can I find it?")
_READ = ("What does it say?", "What is written on it?", "Can you read it?", "Read it.")
_AND = (
    "And the {name}?",
    "What about the {name}?",
    "And what about the {name}?",
    "How about the {name}?",
    "And {name}?",
)
_AND_MANY = ("And {many}?", "What about {many}?", "How about the {many}?", "And how many {many}?")
_AND_ANY = ("And {a}?", "What about {a}?", "Or {a}?")


def follow_up(rng: Random, scene: Scene, last: Turn) -> Turn | None:
    """Return a question whose meaning depends on the last one; None where it leads nowhere."""
    if last.focus_kind is not None and rng.random() < (0.35 if last.focus is not None else 1.0):
        return _same_again(rng, scene, last.focus_kind)
    if last.focus is None:
        return None
    choices: list[Callable[[Random, Scene, Item], Turn | None]] = [_neighbour_of_it, _where_is_it]
    if last.focus.shape is not None:
        if last.kind != "colour":
            choices += [_colour_of_it, _colour_of_it]
        choices += [_is_it, _read_it]
        # `What shape is it?` is no question after `What colour is the circle?`.
        if last.kind in ("between", "relation", "size"):
            choices += [_shape_of_it, _shape_of_it]
    return rng.choice(choices)(rng, scene, last.focus)


def _turn(
    rng: Random, question: str, answer: str, focus: Item | None = None, focus_kind: str | None = None
) -> Turn:
    return Turn(
        kind="follow_up",
        question=vary(rng, question),
        answer=answer,
        focus=focus,
        focus_kind=focus_kind,
    )


def _same_again(rng: Random, scene: Scene, kind: str) -> Turn | None:
    """And the square?"""
    name = rng.choice([s.kind for s in scene.shapes] if scene.shapes and rng.random() < 0.8 else list(SHAPES))
    found = facts.matching(scene, kind=name)
    if kind == "count":
        return _turn(
            rng, rng.choice(_AND_MANY).format(many=phrases.plural(name)), str(len(found)), None, "count"
        )
    if kind == "exists":
        question = rng.choice(_AND_ANY).format(a=f"{phrases.article(name)} {name}")
        return _turn(rng, question, "yes" if found else "no", None, "exists")
    question = rng.choice(_AND).format(name=name)
    if not found:
        return _turn(rng, question, absence.no_such(name))
    if len(found) > 1:
        return None
    item = Item(shape=found[0], text=None)
    if kind == "colour":
        return _turn(rng, question, found[0].colour, item, "colour")
    place = facts.region(scene, item)
    return None if isinstance(place, Unclear) else _turn(rng, question, place, item, "where")


def _colour_of_it(rng: Random, _scene: Scene, item: Item) -> Turn | None:
    assert item.shape is not None, "asked of shapes only"
    return _turn(rng, rng.choice(_COLOUR), item.shape.colour, item)


def _shape_of_it(rng: Random, _scene: Scene, item: Item) -> Turn | None:
    assert item.shape is not None, "asked of shapes only"
    return _turn(rng, rng.choice(_SHAPE), item.shape.kind, item)


def _where_is_it(rng: Random, scene: Scene, item: Item) -> Turn | None:
    place = facts.region(scene, item)
    return None if isinstance(place, Unclear) else _turn(rng, rng.choice(_WHERE), place, item)


def _is_it(rng: Random, _scene: Scene, item: Item) -> Turn | None:
    assert item.shape is not None, "asked of shapes only"
    if rng.random() < 0.5:
        kind = item.shape.kind if rng.random() < 0.5 else rng.choice(SHAPES)
        question = f"Is it {phrases.article(kind)} {kind}?"
        return _turn(rng, question, "yes" if kind == item.shape.kind else "no", item)
    tint = (
        item.shape.colour
        if rng.random() < 0.5
        else rng.choice(("red", "blue", "green", "yellow", "black", "pink"))
    )
    return _turn(rng, f"Is it {tint}?", "yes" if tint == item.shape.colour else "no", item)


def _read_it(rng: Random, scene: Scene, item: Item) -> Turn | None:
    printed = [t for t in scene.texts if t.host is not None and scene.shapes[t.host] == item.shape]
    return _turn(rng, rng.choice(_READ), printed[0].spoken, item) if printed else None


def _neighbour_of_it(rng: Random, scene: Scene, item: Item) -> Turn | None:
    direction = rng.choice(DIRECTIONS)
    other = facts.neighbour(scene, item, direction)
    if isinstance(other, Unclear):
        return None
    question = rng.choice(wordings.RELATION[direction]).format(the="it")
    return _turn(rng, question, phrases.a_thing(other) if other else "nothing", other)
