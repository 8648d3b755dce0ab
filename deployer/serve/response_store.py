"""Responses that are kept for `previous_response_id` and GET: in memory, the longest unused go first."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from deployer.serve.api_errors import ApiError, ApiFault
from deployer.serve.message_types import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredResponse:
    """One response, and the conversation up to its end. Pictures are kept as they were sent."""

    owner: str | None  # which API key asked; None where there are no keys
    response: dict[str, Any]
    input_items: Sequence[dict[str, Any]]
    messages: Sequence[Message]  # without instructions: they are of one response alone
    num_bytes: int

    @classmethod
    def of(
        cls,
        *,
        owner: str | None,
        response: dict[str, Any],
        input_items: Sequence[dict[str, Any]],
        messages: Sequence[Message],
    ) -> "StoredResponse":
        """Return the value with its size counted, as JSON."""
        sizes = (
            len(msgspec.json.encode(response)),
            len(msgspec.json.encode(input_items)),
            *(len(message.model_dump_json()) for message in messages),
        )
        return cls(
            owner=owner,
            response=response,
            input_items=input_items,
            messages=messages,
            num_bytes=sum(sizes),
        )


class ResponseStore:
    """Holds at most `max_bytes`; 0 keeps nothing."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._kept: OrderedDict[str, StoredResponse] = OrderedDict()

    def put(self, stored: StoredResponse) -> None:
        """Keep a response; one that is larger than all the room is not kept."""
        if stored.num_bytes > self.max_bytes:
            return
        self._kept[stored.response["id"]] = stored
        self.num_bytes += stored.num_bytes
        while self.num_bytes > self.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.num_bytes -= oldest.num_bytes

    def get(self, response_id: str, *, owner: str | None) -> StoredResponse:
        """Return a response that the same key asked for. Raises ApiError 404."""
        found = self._kept.get(response_id)
        if found is None or found.owner != owner:
            raise self._unknown(response_id)
        self._kept.move_to_end(response_id)
        return found

    def delete(self, response_id: str, *, owner: str | None) -> None:
        """Forget a response. Raises ApiError 404."""
        self.num_bytes -= self.get(response_id, owner=owner).num_bytes
        del self._kept[response_id]

    def _unknown(self, response_id: str) -> ApiError:
        rule = (
            "responses are not kept here (server.max_stored_bytes=0)"
            if self.max_bytes == 0
            else f"the last {self.max_bytes} bytes are kept while the server runs (server.max_stored_bytes)"
        )
        message = f"response `{response_id}` is not stored: {rule}; send the conversation as `input`"
        return ApiError(ApiFault(status=404, message=message, code="response_not_found", param="response_id"))
