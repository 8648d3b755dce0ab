"""Every answer is checked by a second reading of the question that knows nothing of how it was made."""

import re
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from deployer.pocket_vl.absence import NO_PICTURE, SMALL_TALK, without_picture
from deployer.pocket_vl.conversations import ASKERS, conversation
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.sampling import sample_scene
from deployer.pocket_vl.scene import Box, Item, Scene
from deployer.pocket_vl.turns import Turn
from deployer.pocket_vl.words import COLOURS, PLURALS, SHAPES

BOOK = FontBook([])
SCENES = 250
SIDES = {
    "left": "left",
    "right": "right",
    "above": "above",
    "over": "above",
    "top": "above",
    "below": "below",
    "under": "below",
    "underneath": "below",
    "beneath": "below",
}
SINGULAR = {many: one for one, many in PLURALS.items()}


def asked(kind: str) -> Iterator[tuple[Scene, Turn]]:
    """Yield questions of a kind over many scenes."""
    for seed in range(SCENES):
        scene = sample_scene(seed, BOOK, "judged")
        for attempt in range(3):
            if (turn := ASKERS[kind][0](Random(seed * 7 + attempt), scene)) is not None:
                yield scene, turn


def words(question: str) -> list[str]:
    plain = question.lower().replace("grey", "gray").replace("color", "colour")
    return re.findall(r"[a-z0-9_]+", plain)


def described(scene: Scene, text: list[str]) -> list[Item]:
    """Return the shapes that `red circle`, `circle`, `red shape`, ... could mean, by the words alone."""
    kinds = [word for word in text if word in SHAPES]
    colours = [word for word in text if word in COLOURS]
    return [
        item
        for item in scene.items
        if item.shape is not None
        and (not kinds or item.shape.kind == kinds[0])
        and (not colours or item.shape.colour == colours[0])
    ]


def named(scene: Scene, phrase: str) -> list[Item]:
    """Return the things that an answer such as `a red circle` or `the word STOP` could name."""
    match = re.fullmatch(r"the (?:word|number|text) (.+)", phrase)
    found = [
        item
        for item in scene.items
        if (match is not None and item.text is not None and item.text.spoken == match.group(1))
        or (
            match is None
            and item.shape is not None
            and phrase.split()[1:] == [item.shape.colour, item.shape.kind]
        )
    ]
    assert found, f"{phrase!r} is not in the picture"
    return found


def is_near(item: Item, here: Box, beyond: list[Item], side: str) -> bool:
    """Tell whether a thing lies on a side, and no thing there is much nearer."""
    there = item.box
    moved = {
        "left": there.cx < here.cx,
        "right": there.cx > here.cx,
        "above": there.cy < here.cy,
        "below": there.cy > here.cy,
    }
    distances = [abs(other.box.cx - here.cx) + abs(other.box.cy - here.cy) for other in beyond]
    mine = abs(there.cx - here.cx) + abs(there.cy - here.cy)
    return moved[side] and mine <= 2.2 * min(distances, default=mine)


def test_a_colour_is_that_of_the_shape_that_is_named() -> None:
    for scene, turn in asked("colour"):
        text = [SINGULAR.get(word, word) for word in words(turn.question)]
        colours = {item.shape.colour for item in described(scene, text) if item.shape is not None}
        assert set(re.split(r", | and ", turn.answer)) == colours, turn


def test_a_shape_is_the_only_one_of_its_colour() -> None:
    for scene, turn in asked("shape"):
        kinds = [item.shape.kind for item in described(scene, words(turn.question)) if item.shape is not None]
        assert kinds == [turn.answer], turn


def test_a_count_is_the_number_of_shapes_that_fit() -> None:
    for scene, turn in asked("count"):
        text = [SINGULAR.get(word, word) for word in words(turn.question)]
        assert str(len(described(scene, text))) == turn.answer, turn


def test_something_exists_if_a_shape_fits() -> None:
    for scene, turn in asked("exists"):
        text = [SINGULAR.get(word, word) for word in words(turn.question)]
        if {"text", "writing", "sign"} & set(text):
            found = bool(scene.texts)
        else:
            found = bool({*text} & {*SHAPES, *COLOURS}) and bool(described(scene, text))
            found = found and bool({*text} & {*SHAPES})
        assert turn.answer == ("yes" if found else "no"), turn


@pytest.mark.parametrize("side", ["left", "right", "above", "below"])
def test_what_lies_in_a_direction_is_there_and_nothing_nearer_hides_it(side: str) -> None:
    checked = 0
    for scene, turn in asked("relation"):
        text = words(turn.question)
        way = next((SIDES[word] for word in text if word in SIDES), None)
        if way != side:
            continue
        focus = described(scene, text) if {*text} & {*SHAPES, *COLOURS} else []
        if len(focus) != 1 or {*text} & {"word", "text", "number", "sign"}:
            continue
        checked += 1
        here = focus[0].box
        beyond = [
            item
            for item in scene.items
            if {
                "left": item.box.x1 <= here.x0,
                "right": item.box.x0 >= here.x1,
                "above": item.box.y1 <= here.y0,
                "below": item.box.y0 >= here.y1,
            }[side]
        ]
        if turn.answer == "nothing":
            assert not beyond, turn
        else:
            assert any(is_near(item, here, beyond, side) for item in named(scene, turn.answer)), turn
    assert checked > 10


def test_between_lies_inside_the_box_of_the_two() -> None:
    for scene, turn in asked("between"):
        assert any(
            min(a.box.cx, b.box.cx) - there.width <= there.cx <= max(a.box.cx, b.box.cx) + there.width
            and min(a.box.cy, b.box.cy) - there.height <= there.cy <= max(a.box.cy, b.box.cy) + there.height
            for there in (item.box for item in named(scene, turn.answer))
            for a in scene.items
            for b in scene.items
            if a != b and there not in (a.box, b.box)
        ), turn


def test_a_place_is_the_third_of_the_canvas_that_holds_the_centre() -> None:
    for scene, turn in asked("where"):
        focus = turn.focus
        assert focus is not None
        column = ("left", "middle", "right")[int(3 * focus.box.cx / scene.width)]
        row = ("top", "middle", "bottom")[int(3 * focus.box.cy / scene.height)]
        assert turn.answer == (f"{row} {column}".replace("middle", "").strip() or "middle"), turn


def test_what_is_read_stands_in_the_picture() -> None:
    for scene, turn in asked("read"):
        printed = [text.string.replace("\n", " ") for text in scene.texts]
        assert turn.answer in printed or sorted(re.split(r", | and ", turn.answer)) == sorted(printed), turn


def test_what_is_denied_is_not_there() -> None:
    for scene, turn in asked("absent"):
        noun = turn.answer.removeprefix("There is no ").removesuffix(".")
        if noun in ("sign", "text", "word", "number"):
            assert not scene.texts, turn
        else:
            assert noun.split()[-1] not in SHAPES or not described(scene, noun.split()), turn
            assert noun.replace("gray", "").strip().split()[-1] in words(turn.question), turn


def test_a_description_names_every_thing_once() -> None:
    for scene, turn in asked("describe"):
        if turn.answer == "nothing":
            assert not scene.items
            continue
        wanted = Counter(f"{s.colour} {s.kind}" for s in scene.shapes)
        for text, number in wanted.items():
            assert turn.answer.count(text) == number, turn
        assert all(text.spoken in turn.answer for text in scene.texts), turn


def test_a_conversation_starts_with_a_question_that_stands_alone() -> None:
    for seed in range(100):
        turns = conversation(Random(seed), sample_scene(seed, BOOK, "judged"))
        assert 1 <= len(turns) <= 4
        assert turns[0].kind != "follow_up"


def test_without_a_picture_every_question_is_declined() -> None:
    assert {without_picture(Random(seed)).answer for seed in range(50)} == {NO_PICTURE}
    assert all(answer for _, answer in SMALL_TALK)
