"""Questions about a scene, each right by construction. One function a kind: `(rng, scene) -> Turn | None`.

None means that this scene has no clear question of the kind. `place_questions.py` asks where things lie,
`absence.py` about what is not there, `follow_ups.py` about what was just said.
"""

from itertools import pairwise
from random import Random

from deployer.pocket_vl import facts, phrases, reading_wordings, wordings
from deployer.pocket_vl.facts import Unclear
from deployer.pocket_vl.scene import Item, Scene
from deployer.pocket_vl.turns import Turn
from deployer.pocket_vl.typing_manner import vary
from deployer.pocket_vl.words import COLOURS, SHAPES, STRANGERS

_MOST_DESCRIBED = 3  # things


def the(name: str) -> str:
    """Return `the name`."""
    return f"the {name}"


def pick_item(rng: Random, scene: Scene, *, shapes_only: bool = False) -> tuple[Item, str] | None:
    """Return a thing and a noun that means it alone."""
    items = [item for item in scene.items if item.shape is not None or not shapes_only]
    rng.shuffle(items)
    for item in items:
        if names := phrases.names_of(scene, item):
            return item, rng.choice(names)
    return None


def colour(rng: Random, scene: Scene) -> Turn | None:
    """What colour is the circle?"""
    if rng.random() < 0.25:
        return _colour_of_several(rng, scene)
    picked = pick_item(rng, scene, shapes_only=True)
    if picked is None:
        return None
    item, name = picked
    assert item.shape is not None, "only shapes were asked for"
    if name.split()[0] in COLOURS:
        return None
    return colour_turn(rng, item, name)


def colour_turn(rng: Random, item: Item, name: str) -> Turn:
    """Ask for the colour of a named shape."""
    assert item.shape is not None, "texts have text_colour"
    question = rng.choice(wordings.COLOUR).format(the=the(name), The=the(name).capitalize())
    return Turn(
        kind="colour",
        question=vary(rng, question),
        answer=item.shape.colour,
        focus=item,
        focus_kind="colour",
    )


def _colour_of_several(rng: Random, scene: Scene) -> Turn | None:
    kinds = [kind for kind in SHAPES if 2 <= len(facts.matching(scene, kind=kind)) <= 3]
    if not kinds:
        return None
    kind = rng.choice(kinds)
    found = facts.matching(scene, kind=kind)
    colours = list(dict.fromkeys(shape.colour for shape in found))
    if len(colours) > 1 and not _ordered(scene, [shape.box.cx for shape in found]):
        return None
    many = phrases.plural(kind)
    question = rng.choice(
        ("What colour are the {many}?", "Which colour do the {many} have?", "What colours are the {many}?")
    )
    return Turn(
        kind="colour",
        question=vary(rng, question.format(many=many)),
        answer=phrases.listed(colours),
    )


def shape(rng: Random, scene: Scene) -> Turn | None:
    """What shape is red?"""
    if not scene.shapes:
        return None
    if len(scene.items) == 1 and rng.random() < 0.6:
        item = scene.items[0]
        question = vary(rng, rng.choice(wordings.ONLY_SHAPE))
        return Turn(kind="shape", question=question, answer=scene.shapes[0].kind, focus=item)
    alone = [s for s in scene.shapes if len(facts.matching(scene, colour=s.colour)) == 1]
    if not alone:
        return None
    chosen = rng.choice(alone)
    name = phrases.written_colour(rng, chosen.colour)
    question = vary(rng, rng.choice(wordings.SHAPE).format(colour=name))
    return Turn(kind="shape", question=question, answer=chosen.kind, focus=Item(shape=chosen, text=None))


def count(rng: Random, scene: Scene) -> Turn | None:
    """How many squares are there?"""
    roll = rng.random()
    if roll < 0.15:
        return (
            _count_turn(rng, rng.choice(("shapes", "shapes", "objects")), len(scene.shapes))
            if not scene.texts
            else None
        )
    present = [s.kind for s in scene.shapes] or list(SHAPES)
    kind = rng.choice(present) if rng.random() < 0.8 else rng.choice(SHAPES)
    if roll < 0.62:
        return count_turn(rng, scene, kind)
    tint = (
        rng.choice([s.colour for s in scene.shapes] or list(COLOURS))
        if rng.random() < 0.85
        else rng.choice(list(COLOURS))
    )
    written = phrases.written_colour(rng, tint)
    if roll < 0.82:
        return _count_turn(
            rng, f"{written} {rng.choice(('shapes', 'objects'))}", len(facts.matching(scene, colour=tint))
        )
    return _count_turn(
        rng, f"{written} {phrases.plural(kind)}", len(facts.matching(scene, kind=kind, colour=tint))
    )


def count_turn(rng: Random, scene: Scene, kind: str) -> Turn:
    """Ask how many of a kind there are."""
    return _count_turn(rng, phrases.plural(kind), len(facts.matching(scene, kind=kind)))


def _count_turn(rng: Random, many: str, number: int) -> Turn:
    question = vary(rng, rng.choice(wordings.COUNT).format(many=many))
    return Turn(kind="count", question=question, answer=str(number), focus_kind="count")


def exists(rng: Random, scene: Scene) -> Turn | None:
    """Is there a red circle?"""
    wanted = rng.random() < 0.5
    roll = rng.random()
    if roll < 0.06:
        noun = rng.choice(("text", "writing", "sign"))
        question = f"Is there any {noun}?" if noun != "sign" else "Is there a sign?"
        return Turn(kind="exists", question=vary(rng, question), answer="yes" if scene.texts else "no")
    if wanted:
        if not scene.shapes:
            return None
        chosen = rng.choice(scene.shapes)
        kind, tint = chosen.kind, chosen.colour if roll < 0.45 else None
    else:
        kind = rng.choice(SHAPES) if rng.random() < 0.8 else rng.choice(STRANGERS)
        tint = rng.choice(list(COLOURS)) if roll < 0.3 else None
        if tint is None and facts.matching(scene, kind=kind) and scene.shapes:
            tint = rng.choice(scene.shapes).colour
    return exists_turn(rng, scene, kind, tint)


def exists_turn(rng: Random, scene: Scene, kind: str, tint: str | None) -> Turn:
    """Ask whether a kind, of a colour or of any, is there."""
    written = f"{phrases.written_colour(rng, tint)} " if tint else ""
    name = written + kind
    many = written + phrases.plural(kind)
    question = rng.choice(wordings.EXISTS).format(a=f"{phrases.article(name)} {name}", many=many)
    found = facts.matching(scene, kind=kind, colour=tint)
    focus = Item(shape=found[0], text=None) if len(found) == 1 else None
    answer = "yes" if found else "no"
    return Turn(
        kind="exists",
        question=vary(rng, question),
        answer=answer,
        focus=focus,
        focus_kind="exists",
    )


def size(rng: Random, scene: Scene) -> Turn | None:
    """What is the largest shape?"""
    largest = rng.random() < 0.6
    found = facts.extreme(scene, largest=largest)
    if isinstance(found, Unclear):
        return None
    question = rng.choice(wordings.LARGEST if largest else wordings.SMALLEST)
    focus = Item(shape=found, text=None)
    return Turn(kind="size", question=vary(rng, question), answer=phrases.a_shape(found), focus=focus)


def text_colour(rng: Random, scene: Scene) -> Turn | None:
    """What colour is the text?"""
    if len(scene.texts) != 1:
        return None
    text = scene.texts[0]
    names = ["text", "text", "writing"] + ([text.noun] if text.noun != "text" else [])
    question = vary(rng, rng.choice(reading_wordings.TEXT_COLOUR).format(noun=rng.choice(names)))
    return Turn(kind="text_colour", question=question, answer=text.colour)


def background(rng: Random, scene: Scene) -> Turn | None:
    """What colour is the background?"""
    if scene.background.colour is None:
        return None
    question = vary(rng, rng.choice(wordings.BACKGROUND))
    return Turn(kind="background", question=question, answer=scene.background.colour)


def describe(rng: Random, scene: Scene) -> Turn | None:
    """Describe the picture."""
    items = sorted(scene.items, key=lambda item: item.box.cx)
    if len(items) > _MOST_DESCRIBED or not _ordered(scene, [item.box.cx for item in items]):
        return None
    parts = []
    for item in items:
        part = phrases.a_thing(item)
        printed = [t for t in scene.texts if t.host is not None and scene.shapes[t.host] == item.shape]
        parts.append(f"{part} with {phrases.the_text(printed[0])}" if printed else part)
    answer = phrases.listed(parts) if parts else "nothing"
    pool = wordings.DESCRIBE if len(items) != 1 or rng.random() < 0.6 else wordings.WHAT_IS_SEEN
    focus = items[0] if len(items) == 1 else None
    return Turn(kind="describe", question=vary(rng, rng.choice(pool)), answer=answer, focus=focus)


def _ordered(scene: Scene, xs: list[float]) -> bool:
    """Tell whether the order from the left is plain to see."""
    return all(right - left > 0.05 * scene.width for left, right in pairwise(xs))
