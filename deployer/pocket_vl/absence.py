"""Questions about what is not in the picture, or where there is no picture, and small talk."""

from random import Random

from deployer.pocket_vl import facts, phrases, reading_wordings, wordings
from deployer.pocket_vl.scene import Scene
from deployer.pocket_vl.turns import Turn
from deployer.pocket_vl.typing_manner import vary
from deployer.pocket_vl.words import COLOURS, SHAPES, STRANGERS

NO_PICTURE = "I do not see a picture."
ONLY_PICTURES = "I can only talk about simple pictures."

SMALL_TALK: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("Hello", "Hi", "Hello!", "Hi!", "Hey", "Good morning", "Hi there", "Hello there!", "Good evening!"),
        "Hello!",
    ),
    (
        ("Thanks", "Thank you", "Thank you!", "Thanks!", "Thanks a lot", "Thank you very much."),
        "You are welcome.",
    ),
    (("Bye", "Goodbye", "Bye!", "See you", "Goodbye!", "Good night"), "Goodbye!"),
    (("How are you?", "How are you doing?", "Are you well?"), "I am fine."),
    (
        (
            "Who are you?",
            "What are you?",
            "What is your name?",
            "Tell me about yourself.",
            "Which model are you?",
        ),
        "I am pocket_vl, a small vision-language model.",
    ),
    (
        ("What can you do?", "How can you help me?", "What do you know?", "Help", "Help me"),
        "I can name shapes and colours, count, and read short texts.",
    ),
    (
        (
            "What is the capital of France?",
            "What is 2 + 2?",
            "Tell me a joke.",
            "Write a poem.",
            "What time is it?",
            "How old are you?",
            "Who is the president?",
            "What is the weather like?",
            "Write some code.",
            "Tell me a story.",
            "Translate hello to German.",
            "What is the meaning of life?",
            "Do you like music?",
            "What day is it today?",
            "Explain gravity.",
            "Who wrote Hamlet?",
            "How far is the moon?",
            "Sing a song.",
            "What is Python?",
            "Give me a recipe.",
            "Where is Paris?",
            "Solve this equation.",
            "What is the news?",
            "Say something.",
        ),
        ONLY_PICTURES,
    ),
)


def absent(rng: Random, scene: Scene) -> Turn | None:
    """What colour is the triangle? - where there is none."""
    if rng.random() < 0.22:
        return _no_text(rng, scene)
    name = _missing(rng, scene)
    roll = rng.random()
    if roll < 0.5:
        question = rng.choice(wordings.COLOUR)
    elif roll < 0.7:
        question = rng.choice(wordings.WHERE)
    elif roll < 0.93:
        question = rng.choice(wordings.RELATION[rng.choice(facts.DIRECTIONS)])
    else:
        question = "What is written on {the}?"
    question = vary(rng, question.format(the=f"the {name}", The=f"The {name}"))
    return Turn(kind="absent", question=question, answer=no_such(name))


def no_such(name: str) -> str:
    """Return `There is no triangle.`."""
    return f"There is no {name.replace('grey', 'gray')}."


def _missing(rng: Random, scene: Scene) -> str:
    """Return a shape, a coloured shape or another thing that the scene does not hold."""
    roll = rng.random()
    if roll < 0.25:
        return rng.choice(STRANGERS)
    present = {shape.kind for shape in scene.shapes}
    others = [kind for kind in SHAPES if kind not in present]
    if roll < 0.8 or not scene.shapes:
        return rng.choice(others)
    kind = rng.choice(sorted(present))
    tints = [tint for tint in COLOURS if not facts.matching(scene, kind=kind, colour=tint)]
    # A colour that is elsewhere in the picture is the harder question.
    near = sorted({shape.colour for shape in scene.shapes} & set(tints))
    return f"{phrases.written_colour(rng, rng.choice(near if near and rng.random() < 0.5 else tints))} {kind}"


def _no_text(rng: Random, scene: Scene) -> Turn | None:
    if scene.texts:
        return None
    noun = rng.choice(("sign", "sign", "text", "word", "number"))
    pool = {
        "sign": reading_wordings.READ,
        "text": reading_wordings.READ_ANY,
        "word": reading_wordings.READ_WORD,
        "number": reading_wordings.READ_NUMBER,
    }
    question = rng.choice(pool[noun]).format(noun="sign")
    return Turn(kind="absent", question=vary(rng, question), answer=no_such(noun))


def without_picture(rng: Random) -> Turn:
    """Return a question about a picture that was never sent."""
    name = (
        rng.choice(SHAPES + STRANGERS)
        if rng.random() < 0.9
        else f"{rng.choice(list(COLOURS))} {rng.choice(SHAPES)}"
    )
    many = phrases.plural(name)
    pool = rng.choice(
        (
            wordings.COLOUR,
            wordings.SHAPE,
            wordings.COUNT,
            wordings.RELATION[rng.choice(facts.DIRECTIONS)],
            reading_wordings.READ,
            reading_wordings.READ_ANY,
            reading_wordings.READ_WORD,
            reading_wordings.READ_NUMBER,
            wordings.EXISTS,
            wordings.WHERE,
            wordings.LARGEST,
            wordings.BACKGROUND,
            wordings.DESCRIBE,
            wordings.DESCRIBE,
            wordings.ONLY_SHAPE,
            wordings.WHAT_IS_SEEN,
        )
    )
    question = rng.choice(pool).format(
        the=f"the {name}",
        The=f"The {name}",
        a=f"{phrases.article(name)} {name}",
        many=many,
        colour=rng.choice(list(COLOURS)),
        noun=rng.choice(("sign", "board", "label")),
    )
    return Turn(kind="no_picture", question=vary(rng, question), answer=NO_PICTURE)


def small_talk(rng: Random) -> Turn:
    """Return a greeting or the like."""
    questions, answer = rng.choice(SMALL_TALK)
    question = rng.choice(questions)
    if rng.random() < 0.2:
        question = question.lower()
    return Turn(kind="small_talk", question=question, answer=answer)
