"""The kept responses as routes see them, whichever process of the server holds them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

import msgspec
from pydantic import TypeAdapter

from deployer.serve.api_errors import ApiError, ApiFault
from deployer.serve.message_types import Message
from deployer.serve.response_store import (
    ForgetResponse,
    ReadResponse,
    ResponsePart,
    ResponseStore,
    StoreAsk,
    StoredResponse,
)

_conversation = TypeAdapter(list[Message])


class KeptResponses:
    """Asks the store of the server. `max_bytes` is the store's; 0: nothing is kept."""

    def __init__(self, max_bytes: int, ask: Callable[[StoreAsk], Awaitable[bytes | None]]) -> None:
        """`ask` answers as `ResponseStore.take` does."""
        self.max_bytes = max_bytes
        self._ask = ask

    @classmethod
    def here(cls, max_bytes: int) -> Self:
        """Return those of a store in this process, which no other one asks."""
        store = ResponseStore(max_bytes)

        async def ask(ask: StoreAsk) -> bytes | None:
            return store.take(ask)

        return cls(max_bytes, ask)

    async def put(
        self,
        response: dict[str, Any],
        *,
        owner: str | None,
        input_items: Sequence[dict[str, Any]],
        messages: Sequence[Message],
    ) -> None:
        """Keep a response before its client has the end of it; one larger than all the room is not kept."""
        stored = StoredResponse(
            id=response["id"],
            owner=owner,
            response=msgspec.json.encode(response),
            input_items=msgspec.json.encode(input_items),
            messages=_conversation.dump_json(list(messages), exclude_none=True),
        )
        if stored.num_bytes <= self.max_bytes:
            await self._ask(stored)

    async def response(self, response_id: str, *, owner: str | None) -> bytes:
        """Return a response that the same key asked for, as JSON. Raises ApiError 404."""
        return await self._read(response_id, owner, "response")

    async def input_items(self, response_id: str, *, owner: str | None) -> list[dict[str, Any]]:
        """Return what was asked, in its order. Raises ApiError 404."""
        items: list[dict[str, Any]] = msgspec.json.decode(await self._read(response_id, owner, "input_items"))
        return items

    async def messages(self, response_id: str, *, owner: str | None) -> list[Message]:
        """Return the conversation up to the response's end. Raises ApiError 404."""
        return _conversation.validate_json(await self._read(response_id, owner, "messages"))

    async def delete(self, response_id: str, *, owner: str | None) -> None:
        """Forget a response. Raises ApiError 404."""
        if await self._ask(ForgetResponse(id=response_id, owner=owner)) is None:
            raise self._unknown(response_id)

    async def _read(self, response_id: str, owner: str | None, part: ResponsePart) -> bytes:
        found = await self._ask(ReadResponse(id=response_id, owner=owner, part=part))
        if found is None:
            raise self._unknown(response_id)
        return found

    def _unknown(self, response_id: str) -> ApiError:
        rule = (
            "responses are not kept here (server.max_stored_bytes=0)"
            if self.max_bytes == 0
            else f"the last {self.max_bytes} bytes are kept while the server runs (server.max_stored_bytes)"
        )
        message = f"response `{response_id}` is not stored: {rule}; send the conversation as `input`"
        return ApiError(ApiFault(status=404, message=message, code="response_not_found", param="response_id"))
