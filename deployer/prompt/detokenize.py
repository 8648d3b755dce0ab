"""Token ids to text while they arrive: whole characters only, stop strings of any length held back.

Put together, the deltas of a stream are `tokenizer.decode` of all its ids, cut at the stop string, wherever
the stream was cut.
"""

import codecs
from collections.abc import Iterable, Sequence

import msgspec

from deployer.prompt.stop_strings import first_match, safe_length
from deployer.prompt.tokenizer import Tokenizer


class TextDelta(msgspec.Struct, frozen=True, kw_only=True):  # one a token: a dataclass takes 1 us to make
    """Text that may be shown now."""

    text: str
    stopped_by: str | None  # the stop string that ended the text; what follows it is dropped


class TextStream:
    """The text of one sequence. `feed` it ids in order, `finish` it once."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        stop: Sequence[str] = (),
        skip_special_tokens: bool = True,
        include_stop: bool = False,
        shown_ids: frozenset[int] = frozenset(),
    ) -> None:
        """`shown_ids`: control tokens that stand in the text all the same."""
        self._tokenizer = tokenizer
        self._stop = tuple(word for word in stop if word)
        skipped = tokenizer.special_ids if skip_special_tokens else frozenset[int]()
        self._skipped = skipped - shown_ids
        self._include_stop = include_stop
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_whole = True  # no bytes of a character that is not complete are held
        self._drop_space = tokenizer.drops_first_space
        self._held = ""  # text that may be the beginning of a stop string
        self._stopped_by: str | None = None

    def feed(self, ids: Iterable[int]) -> TextDelta:
        """Take the next ids and return the text that can no longer become a stop string."""
        if self._stopped_by is not None:
            return TextDelta(text="", stopped_by=self._stopped_by)
        text = self._decode(self._bytes(ids))
        if not self._stop:
            return TextDelta(text=text, stopped_by=None)
        text = self._held + text
        match = first_match(text, self._stop)
        if match is not None:
            self._stopped_by, self._held = match.word, ""
            return TextDelta(
                text=text[: match.end if self._include_stop else match.start], stopped_by=match.word
            )
        safe = safe_length(text, self._stop)
        self._held = text[safe:]
        return TextDelta(text=text[:safe], stopped_by=None)

    def finish(self) -> TextDelta:
        """Return what was held back; the bytes of a last character that is not complete are left out."""
        text, self._held = self._held, ""
        return TextDelta(text=text, stopped_by=self._stopped_by)

    def _decode(self, data: bytes) -> str:
        if self._is_whole and data.isascii():
            return data.decode("ascii")
        text = self._utf8.decode(data)
        self._is_whole = not self._utf8.getstate()[0]
        return text

    def _bytes(self, ids: Iterable[int]) -> bytes:
        skipped, token_bytes = self._skipped, self._tokenizer.token_bytes
        data = b"".join([token_bytes(token_id) for token_id in ids if token_id not in skipped])
        if data and self._drop_space:
            data, self._drop_space = data.removeprefix(b" "), False
        return data
