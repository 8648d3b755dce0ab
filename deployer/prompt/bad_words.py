"""Bad words to token sequences: the ways in which a vocabulary can write a word.

A word may be cut into tokens in many ways, and a model that is kept from the usual one takes another. All are
returned, the shortest first, up to a limit a word (a word of n characters has up to 2^(n-1)); beyond it the
rarest are left out. A word is matched where a token starts, so `cat` also bans the end of `con|cat`, but not
the inside of a token `cats`.
"""

from collections.abc import Iterator, Sequence

from deployer.prompt.tokenizer import Tokenizer

_MAX_WAYS = 64  # of one word, either form


def bad_sequences(tokenizer: Tokenizer, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return every token sequence that must not appear, each once."""
    sequences: dict[tuple[int, ...], None] = {}
    for word in words:
        bare = word.removeprefix(" ")
        if not bare:
            continue
        forms = [f" {bare}"] if word.startswith(" ") else [bare, f" {bare}"]
        for form in forms:
            sequences.update(dict.fromkeys(_ways(tokenizer, form.encode())))
        token_id = tokenizer.token_to_id(word)
        if token_id is not None:
            sequences[(token_id,)] = None
    return tuple(sequences)


def _ways(tokenizer: Tokenizer, data: bytes) -> list[tuple[int, ...]]:
    """Return token sequences whose bytes are `data`, fewest tokens first, at most the limit."""
    steps = [
        [
            (end, token_id)
            for end in range(start + 1, len(data) + 1)
            for token_id in tokenizer.ids_of(data[start:end])
        ]
        for start in range(len(data))
    ]
    fewest = _fewest_tokens(steps)
    if fewest[0] is None:
        return []
    found: list[tuple[int, ...]] = []
    for length in range(fewest[0], len(data) + 1):
        for way in _of_length(steps, fewest, 0, length):
            found.append(way)
            if len(found) == _MAX_WAYS:
                return found
    return found


Steps = Sequence[Sequence[tuple[int, int]]]  # by start: (end, id) of each token that fits there


def _fewest_tokens(steps: Steps) -> list[int | None]:
    """Return by position how few tokens reach the end; None where none do."""
    fewest: list[int | None] = [None] * len(steps) + [0]
    for start in reversed(range(len(steps))):
        rests = [rest for end, _ in steps[start] if (rest := fewest[end]) is not None]
        fewest[start] = min(rests) + 1 if rests else None
    return fewest


def _of_length(
    steps: Steps, fewest: Sequence[int | None], start: int, length: int
) -> Iterator[tuple[int, ...]]:
    """Yield the ways from `start` to the end that have exactly `length` tokens."""
    if start == len(steps):
        if length == 0:
            yield ()
        return
    for end, token_id in steps[start]:
        rest = fewest[end]
        if rest is not None and rest < length:
            for way in _of_length(steps, fewest, end, length - 1):
                yield (token_id, *way)
