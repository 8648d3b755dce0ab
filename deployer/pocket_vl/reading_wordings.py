"""The wordings of questions about texts in pictures. `{...}` fields are filled by `reading.py`."""

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
