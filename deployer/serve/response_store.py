"""Responses that are kept for `previous_response_id` and GET: in memory, the longest unused go first.

One process of a server holds them all. It reads nothing of them: they are JSON when they come, and stay it.
Routes ask for them through `kept_responses.py`, in this process or another.
"""

from collections import OrderedDict
from typing import Literal

import msgspec

ResponsePart = Literal["response", "input_items", "messages"]


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One response to keep, and the conversation up to its end. Pictures are kept as they were sent."""

    id: str
    owner: str | None  # which API key asked; None where there are no keys
    response: bytes  # JSON, as the next two
    input_items: bytes
    messages: bytes  # without instructions: they are of one response alone

    @property
    def num_bytes(self) -> int:
        """What it takes of the room."""
        return len(self.response) + len(self.input_items) + len(self.messages)


class ReadResponse(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What is wanted of a response that the same key asked for."""

    id: str
    owner: str | None
    part: ResponsePart


class ForgetResponse(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A response of this key that is to be forgotten."""

    id: str
    owner: str | None


StoreAsk = StoredResponse | ReadResponse | ForgetResponse


class ResponseStore:
    """Holds at most `max_bytes`; 0 keeps nothing."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._kept: OrderedDict[str, StoredResponse] = OrderedDict()

    def take(self, ask: StoreAsk) -> bytes | None:
        """Do what is asked: the part of a response that is read, else nothing; None: it is not here."""
        if isinstance(ask, StoredResponse):
            return self._put(ask)
        found = self._kept.get(ask.id)
        if found is None or found.owner != ask.owner:
            return None
        if isinstance(ask, ForgetResponse):
            self.num_bytes -= self._kept.pop(ask.id).num_bytes
            return b""
        self._kept.move_to_end(ask.id)
        match ask.part:
            case "response":
                return found.response
            case "input_items":
                return found.input_items
            case "messages":
                return found.messages

    def _put(self, stored: StoredResponse) -> bytes | None:
        """Keep a response, whose id is new; one that is larger than all the room is not kept."""
        if stored.num_bytes > self.max_bytes:
            return None
        self._kept[stored.id] = stored
        self.num_bytes += stored.num_bytes
        while self.num_bytes > self.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.num_bytes -= oldest.num_bytes
        return b""
