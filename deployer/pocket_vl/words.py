"""What `pocket_vl` knows by name: shapes, colours, printed words, and things that its pictures never hold.

Data only. `is_held_out` tells what training never shows and the evaluation asks about.
"""

import zlib

SHAPES = ("circle", "oval", "square", "rectangle", "triangle", "diamond", "star", "heart", "cross")

PLURALS = {
    "circle": "circles",
    "oval": "ovals",
    "square": "squares",
    "rectangle": "rectangles",
    "triangle": "triangles",
    "diamond": "diamonds",
    "star": "stars",
    "heart": "hearts",
    "cross": "crosses",
}

Rgb = tuple[int, int, int]

# Anchors that people and drawing programs use for a colour; the generator adds a little jitter.
COLOURS: dict[str, tuple[Rgb, ...]] = {
    "red": (
        (255, 0, 0),
        (255, 0, 0),
        (230, 25, 25),
        (220, 20, 60),
        (240, 60, 50),
        (237, 28, 36),
    ),
    "orange": ((255, 165, 0), (255, 165, 0), (255, 140, 0), (245, 130, 20), (255, 127, 39), (230, 120, 10)),
    "yellow": ((255, 255, 0), (255, 255, 0), (250, 235, 40), (255, 242, 0), (255, 220, 30), (240, 225, 20)),
    "green": (
        (0, 128, 0),
        (0, 128, 0),
        (0, 255, 0),
        (0, 200, 0),
        (34, 177, 76),
        (34, 139, 34),
        (50, 205, 50),
        (60, 180, 75),
        (0, 100, 0),
    ),
    "blue": (
        (0, 0, 255),
        (0, 0, 255),
        (30, 60, 220),
        (63, 72, 204),
        (65, 105, 225),
        (0, 0, 139),
        (30, 110, 255),
        (30, 144, 255),
    ),
    "cyan": ((0, 255, 255), (0, 255, 255), (0, 220, 230), (64, 224, 208), (0, 206, 209)),
    "purple": ((128, 0, 128), (128, 0, 128), (148, 0, 211), (163, 73, 164), (110, 40, 160), (138, 43, 226)),
    "pink": (
        (255, 192, 203),
        (255, 192, 203),
        (255, 105, 180),
        (255, 20, 147),
        (255, 174, 201),
        (250, 150, 190),
    ),
    "brown": ((139, 69, 19), (139, 69, 19), (120, 70, 30), (101, 67, 33), (150, 90, 50)),
    "black": ((0, 0, 0), (0, 0, 0), (0, 0, 0), (20, 20, 20), (35, 35, 35)),
    "gray": ((128, 128, 128), (128, 128, 128), (150, 150, 150), (105, 105, 105), (169, 169, 169)),
    "white": ((255, 255, 255), (255, 255, 255), (250, 250, 250), (242, 242, 242)),
}

# Things people ask about that are never in a picture of the generator.
STRANGERS = tuple(
    """
    dog cat car house tree person man woman boy girl bird fish horse cow flower apple banana boat ship
    plane train bus bike table chair cup ball book phone clock sun moon cloud river mountain bridge door
    window hat shoe key lamp face hand cake pizza robot arrow pentagon hexagon octagon cube cylinder
    spiral mouse sheep elephant duck frog snake truck computer camera bottle glass fork knife spoon bed
    desk fence road garden guitar piano pencil pen ring
    """.split()  # noqa: SIM905 - a list of words reads better as words
)

PRINTED = tuple(
    """
    stop go exit open closed sale free hello world yes no left right up down in out on off push pull
    north south east west hot cold new old big small taxi bus cafe bar hotel shop bank park school gym
    zoo museum police fire help danger caution slow fast wait walk run play pause start end begin finish
    enter entry toilet men women lift stairs floor room office home house street road lane bridge river
    lake beach sea island forest garden farm market bakery butcher pizza burger salad soup bread milk
    coffee tea water juice beer wine sugar salt pepper rice pasta cheese apple banana cherry lemon
    orange grape melon peach pear plum berry carrot onion potato tomato bean corn nut egg fish meat
    chicken beef pork cat dog bird horse cow pig sheep goat duck fox wolf bear lion tiger zebra mouse
    rabbit snake frog ant bee spider red green blue yellow black white pink gold silver one two three
    four five six seven eight nine ten monday friday sunday june july march april winter spring summer
    autumn day night noon morning evening today sun moon star cloud rain snow wind storm sky earth mars
    love peace joy hope dream smile happy lucky good great best super mega mini max top pro plus cash
    card price cheap deal offer gift bonus prize winner ticket pass menu order pay bill tax toll parking
    keep clear quiet please thanks welcome goodbye bye wow cool nice magic power energy light dark sound
    music radio video photo camera film movie show stage theater ticket book paper pen pencil news post
    mail letter phone call email web code data cloud file disk robot laser rocket plane train boat ship
    car bike truck van tram metro station airport port gate track platform line route map guide tour
    trip travel visit camp tent hike climb ski swim surf dive jump kick ball goal team game match score
    win club sport yoga dance fit health doctor nurse clinic hospital pharmacy dentist care baby child
    kids boy girl man woman king queen prince knight castle tower bridge wall door window key lock box
    bag hat shoe shirt dress coat sock glove ring watch clock lamp table chair sofa bed desk shelf cup
    plate fork knife spoon bowl glass bottle can pan pot oven stove fridge sink bath soap towel brush
    comb mirror wood stone metal steel iron brick glass cotton wool silk leather plastic rubber engine
    motor wheel tire brake fuel oil gas pump pipe tool hammer drill nail screw saw rope chain wire cable
    plug switch button alpha beta gamma delta omega zero hundred north ahead detour yield merge exit
    only way turn school zone speed limit bump narrow bend hill cross deer works crew area private
    public staff visitor guest member press reserved wet paint mind step gap high low voltage keep out
    no entry smoking dogs bikes feed touch
    """.split()  # noqa: SIM905 - a list of words reads better as words
)

# Words whose capital and small letters look alike at any size cannot be read with their case.
TWIN_LETTERS = frozenset("cosvwxzu")

LONGEST_WORD = 6  # letters


def is_held_out(kind: str, value: str) -> bool:
    """Tell whether a pair of coloured shapes, a word or a number is kept out of training."""
    share = {"pair": 12, "word": 10, "number": 10}[kind]
    return zlib.crc32(f"pocket {kind} {value}".encode()) % share == 0


def readable_words() -> tuple[str, ...]:
    """Return the short printed words, lower case, sorted; none whose case cannot be seen."""
    return tuple(sorted({word for word in PRINTED if set(word) - TWIN_LETTERS and len(word) <= LONGEST_WORD}))
