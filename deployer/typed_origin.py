"""Where a value that a message objects to was typed, for checks that the config tree is not at hand for.

Messages of the tree name their origin already (`deployer/config/checks.py`); a port that is in use, an
option of a verb out of its range and the like know only the value.
"""

from collections.abc import Sequence


def with_origin(line: str, words: Sequence[str]) -> str:
    """Return a message `key=value: ...` with the word of the command line that set the key.

    Unchanged where it names an origin already, or nobody typed that value.
    """
    for word in reversed(words):
        typed = word.lstrip("+")
        key, equals, value = typed.partition("=")
        if equals and value and "." not in key and _is_of_group(line, key):
            setting, _, rule = line.partition(": ")
            return f"{setting} (command line `{word}`): {rule}"
        if not (equals and key and value and line.startswith(typed)):
            continue
        rest = line[len(typed) :]
        if rest.startswith((": ", ", ")):
            return f"{typed} (command line `{word}`){rest}"
    return line


def _is_of_group(line: str, group: str) -> bool:
    """Tell whether a message is about a setting of a group, one that names no origin yet."""
    setting, colon, _ = line.partition(": ")
    return bool(colon) and setting.startswith(f"{group}.") and "=" in setting and " " not in setting
