"""The wordings of questions, by what they ask. `{...}` fields are filled by `questions.py`.

`colour` stands for both spellings; `vary` picks one, and writes as people do: without capitals, without
a question mark.
"""

from random import Random

COLOUR = (
    "What colour is {the}?",
    "What colour is {the}?",
    "What is the colour of {the}?",
    "Which colour is {the}?",
    "Which colour does {the} have?",
    "What colour does {the} have?",
    "{The} is what colour?",
    "Tell me the colour of {the}.",
    "What's the colour of {the}?",
    "Can you tell me what colour {the} is?",
    "What color would you say {the} is?",
)
SHAPE = (
    "What shape is {colour}?",
    "What is the {colour} shape?",
    "What is the {colour} object?",
    "Which shape is {colour}?",
    "What shape is the {colour} object?",
    "What {colour} shape is there?",
    "Which shape is coloured {colour}?",
    "What is {colour}?",
    "What kind of shape is the {colour} one?",
)
ONLY_SHAPE = (
    "What shape is this?",
    "What shape is in the picture?",
    "Which shape do you see?",
    "What shape do you see?",
    "What shape is it?",
    "What is the shape in the picture?",
)
WHAT_IS_SEEN = (
    "What is this?",
    "What do you see?",
    "What is in the picture?",
    "What is shown?",
    "What can you see in this picture?",
)
COUNT = (
    "How many {many} are there?",
    "How many {many} are there?",
    "How many {many} are in the picture?",
    "How many {many} do you see?",
    "How many {many} can you see?",
    "Count the {many}.",
    "What is the number of {many}?",
    "Tell me how many {many} there are.",
    "How many {many}?",
    "How many {many} does the picture show?",
    "How many {many} are there in total?",
)
RELATION = {
    "left": (
        "What is left of {the}?",
        "What is left of {the}?",
        "What is to the left of {the}?",
        "What do you see left of {the}?",
        "What is on the left of {the}?",
        "What is on the left side of {the}?",
        "Which object is left of {the}?",
        "Which thing is to the left of {the}?",
        "What's left of {the}?",
        "What shape is to the left of {the}?",
    ),
    "right": (
        "What is right of {the}?",
        "What is right of {the}?",
        "What is to the right of {the}?",
        "What do you see right of {the}?",
        "What is on the right of {the}?",
        "What is on the right side of {the}?",
        "Which object is right of {the}?",
        "Which thing is to the right of {the}?",
        "What's right of {the}?",
        "What shape is to the right of {the}?",
    ),
    "above": (
        "What is above {the}?",
        "What is above {the}?",
        "What is over {the}?",
        "What do you see above {the}?",
        "Which object is above {the}?",
        "What is on top of {the}?",
        "Which shape is above {the}?",
        "What's above {the}?",
    ),
    "below": (
        "What is below {the}?",
        "What is below {the}?",
        "What is under {the}?",
        "What do you see below {the}?",
        "Which object is below {the}?",
        "What is underneath {the}?",
        "What is beneath {the}?",
        "Which shape is below {the}?",
        "What's under {the}?",
    ),
}
DIRECTION_WORDS = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "lower than"),
}
RELATION_YES_NO = (
    "Is {the} {where} {other}?",
    "Is {the} {where} {other}?",
    "Do you see {the} {where} {other}?",
)
BETWEEN = (
    "What is between {the} and {other}?",
    "What lies between {the} and {other}?",
    "Which object is between {the} and {other}?",
)
READ = (
    "What does the {noun} say?",
    "What does the {noun} say?",
    "What does the {noun} read?",
    "What is written on the {noun}?",
    "Read the {noun}.",
    "What does it say on the {noun}?",
    "What is on the {noun}?",
    "Can you read the {noun}?",
)
READ_ANY = (
    "What is written in the picture?",
    "What is written here?",
    "What does the text say?",
    "What text is in the picture?",
    "What text do you see?",
    "Read the text.",
    "What does it say?",
    "What is printed in the picture?",
    "What can you read?",
    "Which text is in the picture?",
    "Please read the text in the picture.",
    "What is written there?",
)
READ_WORD = (
    "What is the word?",
    "Which word is in the picture?",
    "What word do you see?",
    "What word is written?",
    "Read the word.",
    "Which word is written there?",
    "What does the word say?",
)
READ_NUMBER = (
    "What number is it?",
    "What is the number?",
    "Which number is in the picture?",
    "What number do you see?",
    "What number is written there?",
    "Read the number.",
    "Which number do you see?",
    "What number is shown?",
)
READ_ON = (
    "What is written on {the}?",
    "What does {the} say?",
    "What is on {the}?",
    "What text is on {the}?",
    "Read the text on {the}.",
)
READ_COLOURED = (
    "What does the {colour} {noun} say?",
    "What does the {colour} {noun} say?",
    "What is the {colour} {noun}?",
    "What is written in {colour}?",
    "Read the {colour} {noun}.",
    "What text is {colour}?",
)
READ_TOP = (
    "What is written at the top?",
    "What does the text at the top say?",
    "What is the first line?",
    "Read the first line.",
    "What does the top text say?",
)
READ_BOTTOM = (
    "What is written at the bottom?",
    "What does the text at the bottom say?",
    "What is the last line?",
    "Read the last line.",
    "What does the bottom text say?",
)
TEXT_COLOUR = (
    "What colour is the {noun}?",
    "Which colour does the {noun} have?",
    "What is the colour of the {noun}?",
    "In what colour is the {noun} written?",
    "What colour are the letters?",
)
EXISTS = (
    "Is there {a}?",
    "Is there {a}?",
    "Is there {a} in the picture?",
    "Do you see {a}?",
    "Can you see {a}?",
    "Does the picture show {a}?",
    "Is {a} in the picture?",
    "Does the picture contain {a}?",
    "Are there any {many}?",
    "Are there any {many} in the picture?",
    "Do you see any {many}?",
)
WHERE = (
    "Where is {the}?",
    "Where is {the}?",
    "Where in the picture is {the}?",
    "Where do you see {the}?",
    "In which part of the picture is {the}?",
    "Where can I find {the}?",
)
LARGEST = (
    "What is the largest shape?",
    "What is the biggest shape?",
    "Which shape is the largest?",
    "Which shape is the biggest?",
    "Which object is the biggest?",
    "What is the biggest object?",
)
SMALLEST = (
    "What is the smallest shape?",
    "Which shape is the smallest?",
    "What is the smallest object?",
    "Which object is the smallest?",
)
BACKGROUND = (
    "What colour is the background?",
    "What is the colour of the background?",
    "Which colour does the background have?",
    "What background colour does the picture have?",
)
DESCRIBE = (
    "Describe the picture.",
    "Describe this image.",
    "Describe the image.",
    "What is in the picture?",
    "What do you see?",
    "What can you see?",
    "What does the picture show?",
    "What objects are in the picture?",
    "List everything in the picture.",
    "Tell me what you see.",
)
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
