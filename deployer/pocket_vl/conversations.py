"""Conversations about one scene: a question, then follow-ups and further questions."""

from collections.abc import Callable
from random import Random

from deployer.pocket_vl import absence, place_questions, questions, reading
from deployer.pocket_vl.follow_ups import follow_up
from deployer.pocket_vl.scene import Scene
from deployer.pocket_vl.turns import Turn

Asker = Callable[[Random, Scene], Turn | None]

# Kinds of first questions and how often training asks them, where the scene has one.
ASKERS: dict[str, tuple[Asker, int]] = {
    "colour": (questions.colour, 12),
    "shape": (questions.shape, 8),
    "count": (questions.count, 13),
    "relation": (place_questions.relation, 22),
    "relation_yes_no": (place_questions.relation_yes_no, 10),
    "between": (place_questions.between, 16),
    "exists": (questions.exists, 8),
    "where": (place_questions.where, 9),
    "size": (questions.size, 7),
    "read": (reading.read, 44),
    "text_colour": (questions.text_colour, 4),
    "background": (questions.background, 3),
    "describe": (questions.describe, 14),
    "absent": (absence.absent, 10),
}


def first_question(rng: Random, scene: Scene) -> Turn:
    """Return a question about the scene, of a random kind."""
    names = list(ASKERS)
    weights = [weight for _, weight in ASKERS.values()]
    while True:
        asker = ASKERS[rng.choices(names, weights)[0]][0]
        if (turn := asker(rng, scene)) is not None:
            return turn


def conversation(rng: Random, scene: Scene) -> list[Turn]:
    """Return one to four turns about the scene."""
    turns = [first_question(rng, scene)]
    length = rng.choices((1, 2, 3, 4), (55, 25, 13, 7))[0]
    while len(turns) < length:
        if rng.random() < 0.04:
            turns.append(absence.small_talk(rng))
            continue
        further = follow_up(rng, scene, turns[-1]) if rng.random() < 0.72 else None
        turns.append(further or first_question(rng, scene))
    return turns


def blind_conversation(rng: Random) -> list[Turn]:
    """Return turns of a conversation that never had a picture."""
    return [
        absence.small_talk(rng) if rng.random() < 0.5 else absence.without_picture(rng)
        for _ in range(rng.choices((1, 2, 3), (70, 22, 8))[0])
    ]
