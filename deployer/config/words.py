"""What a word of the command line is, by its look alone: a recipe's file, or what sets a key of a group."""


def is_recipe_file(word: str) -> bool:
    """Tell whether a word is the path of a recipe."""
    return "=" not in word and word.endswith((".yaml", ".yml"))


def group_of(word: str) -> str:
    """Return the group that a word sets a key of, or whose option it chooses."""
    return word.lstrip("+~").partition("=")[0].partition(".")[0]
