"""What stood behind the last tokens of a sequence when they stood in it before. Ints only.

Answers repeat: names and sums of a page that is read, keys of JSON, lines of a text that is edited. Saxena,
"Prompt Lookup Decoding", 2023 (github.com/apoorvumang/prompt-lookup-decoding) proposes what followed then.
"""

from collections.abc import Sequence as Seq


class PromptLookup:
    """The latest place of every run of `match_tokens` tokens in one sequence, which only grows."""

    def __init__(self, match_tokens: int) -> None:
        self._match_tokens = match_tokens
        self._ends: dict[tuple[int, ...], int] = {}  # where a run ended last, the sequence's own end left out
        self._num_indexed = 0  # runs

    def followers(self, tokens: Seq[int], most: int) -> list[int]:
        """Return up to `most` tokens that may follow: none where the last ones stand here for the first time.

        Text that repeats itself up to its end is taken to go on so. A call costs as much as there are tokens
        since the one before it.
        """
        num = len(tokens) - self._match_tokens  # of runs that something follows
        if num <= 0 or most <= 0:
            return []
        new = tokens[self._num_indexed :]
        runs = zip(*(new[i:] for i in range(self._match_tokens)), strict=False)
        ends = range(self._num_indexed + self._match_tokens, len(tokens))
        self._ends.update(zip(runs, ends, strict=False))
        self._num_indexed = num
        end = self._ends.get(tuple(tokens[num:]))
        if end is None:
            return []
        period = len(tokens) - end
        return [tokens[end + i % period] for i in range(most)]
