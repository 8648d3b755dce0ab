"""One call as it is written: a JSON object whose name and arguments are told while it grows."""

import json
from dataclasses import dataclass
from typing import Literal

_SPACE = " \t\r\n"


class MalformedCallError(ValueError):
    """What was written is no call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallPart:
    """What became known: the name, or the next stretch of the arguments' JSON."""

    kind: Literal["name", "arguments"]
    text: str


class CallObject:
    """Reads `{"name": ..., "<arguments>": {...}}` piece by piece; other keys are passed over.

    Arguments are told as they are written, once the name is known. Arguments that are a JSON string (some
    models quote them) are told at their end, unquoted. Depth 1 is inside the call itself.
    """

    def __init__(self, arguments_key: str) -> None:
        self._arguments_key = arguments_key
        self._depth = 0
        self._in_string = self._escaped = False
        self._token = ""  # the key or value that is being read
        self._key: str | None = None  # None: a key is expected
        self._held = ""  # arguments that came before the name
        self._has_name = self._has_arguments = False
        self.is_done = False

    def feed(self, text: str) -> tuple[list[CallPart], str]:
        """Take text; returns what became known and what stands behind the object.

        Raises MalformedCallError.
        """
        parts: list[CallPart] = []
        for place, character in enumerate(text):
            self._take(character, parts)
            if self.is_done:
                return _joined(parts), text[place + 1 :]
        return _joined(parts), ""

    def _take(self, character: str, parts: list[CallPart]) -> None:
        if self._in_string:
            self._in_string = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
            self._add(character, parts)
        elif character in "{[":
            self._depth += 1
            if self._depth > 1:
                self._add(character, parts)
        elif character in "}]":
            self._depth -= 1
            if self._depth > 0:
                self._add(character, parts)
            else:
                self._end_value(parts)
                self._end(parts)
        elif self._depth == 1 and character == ":" and self._key is None:
            self._key = _loads(self._token)
            self._token = ""
        elif self._depth == 1 and character == ",":
            self._end_value(parts)
        elif self._depth == 1 and character in _SPACE:
            pass
        else:
            self._in_string = character == '"'
            self._add(character, parts)

    def _add(self, character: str, parts: list[CallPart]) -> None:
        self._token += character
        streams = self._key == self._arguments_key and self._token[0] != '"'
        if streams:
            self._tell(character, parts)

    def _tell(self, text: str, parts: list[CallPart]) -> None:
        self._has_arguments = True
        if self._has_name:
            parts.append(CallPart(kind="arguments", text=text))
        else:
            self._held += text

    def _end_value(self, parts: list[CallPart]) -> None:
        token, key = self._token.strip(), self._key
        self._token, self._key = "", None
        if key is None:
            if token:
                raise MalformedCallError(f"{token[:40]} is no key with a value")
        elif key == "name":
            name = _loads(token)
            if not isinstance(name, str) or self._has_name:
                raise MalformedCallError("`name` must be one string")
            self._has_name = True
            parts.append(CallPart(kind="name", text=name))
            if self._held:
                parts.append(CallPart(kind="arguments", text=self._held))
        elif key == self._arguments_key and token.startswith('"'):
            self._tell(str(_loads(token)), parts)

    def _end(self, parts: list[CallPart]) -> None:
        if not self._has_name:
            raise MalformedCallError("a call needs `name`")
        if not self._has_arguments:
            parts.append(CallPart(kind="arguments", text="{}"))
        self.is_done = True


def _loads(token: str) -> str:
    try:
        found = json.loads(token)
    except ValueError as error:
        raise MalformedCallError(f"{token[:40]} is no JSON") from error
    if not isinstance(found, str):
        raise MalformedCallError(f"{token[:40]} is no string")
    return found


def _joined(parts: list[CallPart]) -> list[CallPart]:
    """Put stretches of arguments that follow each other together."""
    joined: list[CallPart] = []
    for part in parts:
        if joined and joined[-1].kind == part.kind == "arguments":
            joined[-1] = CallPart(kind="arguments", text=joined[-1].text + part.text)
        else:
            joined.append(part)
    return joined
