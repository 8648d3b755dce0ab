"""From the text of an answer to content and calls of tools, while it grows; the format is data.

What begins like a call and turns out to be none is content. Blanks between content and a call are dropped,
and so is a call that the answer's length or a stop string cut before its name was known.
"""

import secrets
import string
from dataclasses import dataclass, field

from deployer.generation.call_object import CallObject, CallPart, MalformedCallError
from deployer.prompt.stop_strings import safe_length
from deployer.prompt.tool_format import ToolFormat

_ID_CHARACTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, kw_only=True, slots=True)
class CallDelta:
    """What one call gained; the first has id and name."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(kw_only=True, slots=True)
class ParsedDelta:
    """What an answer gained."""

    content: str = ""
    calls: list[CallDelta] = field(default_factory=list)


class ToolParser:
    """Reads one answer. `feed` it text in order, `finish` it once.

    States: text, where a marker is looked for; behind a marker or a call, where a call may begin; in a call.
    """

    def __init__(self, form: ToolFormat, *, must_call: bool) -> None:
        """`must_call`: the answer is held to calls, so that no part of it is content."""
        self._form = form
        self._must_call = must_call
        self._buffer = ""
        self._raw = ""  # since the marker, in case it is no call
        self._is_behind = False  # behind a marker or a call
        self._call: CallObject | None = None
        self._is_named = False  # the call in hand has told its name
        self._wrote_text = False
        self.num_calls = 0

    def feed(self, text: str) -> ParsedDelta:
        """Take the next text."""
        delta = ParsedDelta()
        self._buffer += text
        while self._buffer and self._advance(delta):
            pass
        return delta

    def finish(self, *, is_cut: bool) -> ParsedDelta:
        """Return what was held back; `is_cut`: the answer would have gone on."""
        delta = ParsedDelta()
        if is_cut and self._is_in_a_call():
            self._buffer = self._raw = ""
            return delta
        cut = self._raw if self._call is not None and not self._is_named else ""
        if self._call is None and self._is_behind and not self.num_calls:
            cut = self._raw
        if self._call is not None and self._is_named:
            self._buffer = ""
        if self._buffer.strip() or not self.num_calls:
            self._content(cut + self._buffer, delta)
        self._buffer = self._raw = ""
        return delta

    def _is_in_a_call(self) -> bool:
        """Tell whether what is held back can only be a call, or what stands around one."""
        if self._must_call:
            return True
        has_marker = bool(self._form.marker)  # without one, an answer that begins with `{` may be content
        return bool(self.num_calls) or (has_marker and (self._is_behind or self._call is not None))

    def _advance(self, delta: ParsedDelta) -> bool:
        """Work off the beginning of the buffer; False: more text is needed."""
        if self._call is not None:
            return self._in_call(self._call, delta)
        return self._behind(delta) if self._is_behind else self._in_text(delta)

    def _in_text(self, delta: ParsedDelta) -> bool:
        marker = self._form.marker
        if not marker:
            return self._unmarked(delta)
        before, found, after = self._buffer.partition(marker)
        if found:
            text = before.rstrip()
            self._content(text, delta)
            self._raw, self._buffer, self._is_behind = before[len(text) :] + marker, after, True
            return True
        safe = safe_length(self._buffer, (marker,))
        safe = len(self._buffer[:safe].rstrip())  # blanks may stand in front of a call
        self._content(self._buffer[:safe], delta)
        self._buffer = self._buffer[safe:]
        return False

    def _unmarked(self, delta: ParsedDelta) -> bool:
        """A format without a marker: an answer that begins with `{` is a call, any other is content."""
        if self._wrote_text or self.num_calls:
            self._content(self._buffer, delta)
            self._buffer = ""
            return False
        if not self._buffer.strip():
            return False
        if self._buffer.lstrip().startswith("{"):
            self._is_behind = True
        else:
            self._content(self._buffer, delta)
            self._buffer = ""
        return True

    def _behind(self, delta: ParsedDelta) -> bool:
        """Pass over what stands around calls, up to the next one or to text."""
        rest = self._buffer.lstrip(" \t\r\n[,;")
        close = self._form.close.strip()
        if not rest:
            self._raw, self._buffer = self._raw + self._buffer, ""
            return False
        if rest.startswith("{"):
            self._raw += self._buffer[: len(self._buffer) - len(rest)]
            self._buffer, self._is_named = rest, False
            self._call = CallObject(self._form.arguments)
            return True
        if close and rest.startswith(close):
            self._buffer, self._is_behind, self._raw = rest[len(close) :].lstrip(), False, ""
            return True
        if close and close.startswith(rest):
            return False
        self._content(self._raw if not self.num_calls else "", delta)
        self._is_behind, self._raw = False, ""
        return True

    def _in_call(self, call: CallObject, delta: ParsedDelta) -> bool:
        text, self._buffer = self._buffer, ""
        self._raw += text
        try:
            parts, rest = call.feed(text)
        except MalformedCallError:
            self._give_up(delta)
            return True
        for part in parts:
            self._tell(part, delta)
        if not call.is_done:
            return False
        self._call, self._raw, self._buffer = None, "", rest
        return True

    def _give_up(self, delta: ParsedDelta) -> None:
        """Show what was no call as content; where its name is out already, it stays as far as it came."""
        if not self._is_named:
            self._content(self._raw, delta)
        self._call, self._is_behind, self._raw = None, False, ""

    def _tell(self, part: CallPart, delta: ParsedDelta) -> None:
        if part.kind == "name":
            self._is_named = True
            self.num_calls += 1
            delta.calls.append(
                CallDelta(index=self.num_calls - 1, id=_call_id(self._form.id_length), name=part.text)
            )
        elif delta.calls and delta.calls[-1].index == self.num_calls - 1:
            last = delta.calls[-1]
            delta.calls[-1] = CallDelta(
                index=last.index, id=last.id, name=last.name, arguments=last.arguments + part.text
            )
        else:
            delta.calls.append(CallDelta(index=self.num_calls - 1, arguments=part.text))

    def _content(self, text: str, delta: ParsedDelta) -> None:
        self._wrote_text = self._wrote_text or bool(text)
        delta.content += text


def _call_id(length: int | None) -> str:
    if length is None:
        return f"call_{secrets.token_hex(12)}"
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(length))
