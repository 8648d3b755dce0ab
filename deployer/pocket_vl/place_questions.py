"""Questions about where things lie: on the canvas, beside each other, between two others."""

from random import Random

from deployer.pocket_vl import facts, phrases, wordings
from deployer.pocket_vl.facts import DIRECTIONS, Unclear
from deployer.pocket_vl.questions import pick_item, the
from deployer.pocket_vl.scene import Item, Scene
from deployer.pocket_vl.turns import Turn
from deployer.pocket_vl.typing_manner import vary


def relation(rng: Random, scene: Scene) -> Turn | None:
    """What is left of the star?"""
    picked = pick_item(rng, scene)
    if picked is None or (len(scene.items) < 2 and rng.random() < 0.7):
        return None
    item, name = picked
    found = _clear_neighbours(scene, item)
    if not found:
        return None
    filled = [pair for pair in found if pair[1] is not None]
    direction, other = rng.choice(filled if filled and rng.random() < 0.85 else found)
    question = vary(rng, rng.choice(wordings.RELATION[direction]).format(the=the(name)))
    answer = phrases.a_thing(other) if other is not None else "nothing"
    return Turn(kind="relation", question=question, answer=answer, focus=other)


def _clear_neighbours(scene: Scene, item: Item) -> list[tuple[facts.Direction, Item | None]]:
    pairs = [(direction, facts.neighbour(scene, item, direction)) for direction in DIRECTIONS]
    return [(direction, other) for direction, other in pairs if not isinstance(other, Unclear)]


def relation_yes_no(rng: Random, scene: Scene) -> Turn | None:
    """Is the circle left of the star?"""
    first, second = pick_item(rng, scene), pick_item(rng, scene)
    if first is None or second is None or first[0] == second[0]:
        return None
    clear = [(d, facts.lies(scene, first[0], second[0], d)) for d in DIRECTIONS]
    wanted = rng.random() < 0.5
    fitting = [direction for direction, answer in clear if answer is wanted]
    if not fitting:
        return None
    direction = rng.choice(fitting)
    where = rng.choice(wordings.DIRECTION_WORDS[direction])
    question = rng.choice(wordings.RELATION_YES_NO).format(
        the=the(first[1]), where=where, other=the(second[1])
    )
    return Turn(kind="relation_yes_no", question=vary(rng, question), answer="yes" if wanted else "no")


def between(rng: Random, scene: Scene) -> Turn | None:
    """What is between the star and the circle?"""
    if len(scene.items) < 3:
        return None
    for _ in range(6):
        first, second = (pick_item(rng, scene, shapes_only=True) for _ in range(2))
        if first is None or second is None or first[0] == second[0]:
            continue
        found = facts.between(scene, first[0], second[0])
        if isinstance(found, Item) and found.shape is not None:
            question = rng.choice(wordings.BETWEEN).format(the=the(first[1]), other=the(second[1]))
            return Turn(
                kind="between",
                question=vary(rng, question),
                answer=phrases.a_thing(found),
                focus=found,
            )
    return None


def where(rng: Random, scene: Scene) -> Turn | None:
    """Where is the star?"""
    picked = pick_item(rng, scene)
    return where_turn(rng, scene, *picked) if picked else None


def where_turn(rng: Random, scene: Scene, item: Item, name: str) -> Turn | None:
    """Ask where on the canvas a named thing lies."""
    place = facts.region(scene, item)
    if isinstance(place, Unclear):
        return None
    question = vary(rng, rng.choice(wordings.WHERE).format(the=the(name)))
    return Turn(kind="where", question=question, answer=place, focus=item, focus_kind="where")
