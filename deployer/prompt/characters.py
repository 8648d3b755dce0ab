"""Text whose characters are whole. Python keeps halves of surrogate pairs, which no UTF-8 can write.

They come from bytes of a terminal that are no UTF-8, and from JSON that is cut between two escapes.
"""


def half_character(text: str) -> str | None:
    """Return the first half of a surrogate pair that stands alone, as JSON writes it; None: there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(text[error.start]):04x}"
    return None
