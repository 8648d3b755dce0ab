"""The wordings of questions, by what they ask. `{...}` fields are filled by `questions.py`.

`colour` stands for both spellings (`typing_manner.py`); questions about texts are in `reading_wordings.py`.
"""

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
