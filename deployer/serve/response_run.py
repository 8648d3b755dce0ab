"""One response from its prompt to its end, streamed or not, and into the store."""

import secrets
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from deployer.generation.choices import Choice
from deployer.generation.generate import Piece
from deployer.generation.tool_parser import ParsedDelta, ToolParser
from deployer.serve.api_errors import ApiFault
from deployer.serve.chat_prompt import chat_prompt
from deployer.serve.logprobs import chat_logprobs
from deployer.serve.message_types import Message
from deployer.serve.openai_types import ChatBody
from deployer.serve.request_record import RequestRecord
from deployer.serve.response_object import end_response, new_response
from deployer.serve.response_output import Event, ResponseOutput
from deployer.serve.response_request import NAMES, items_to_messages
from deployer.serve.response_types import CallItem, MessageItem, ResponseBody
from deployer.serve.service import Service
from deployer.serve.tool_answers import was_cut
from deployer.serve.usage import Tally


@dataclass(frozen=True, kw_only=True, slots=True)
class ResponseRun:
    """A response that is ready to run."""

    service: Service
    body: ResponseBody
    asked: ChatBody
    record: RequestRecord
    choices: list[Choice]
    parser: ToolParser | None
    response: dict[str, Any]
    is_stored: bool
    output: ResponseOutput = field(default_factory=ResponseOutput)

    @classmethod
    async def of(
        cls,
        service: Service,
        body: ResponseBody,
        asked: ChatBody,
        record: RequestRecord,
        *,
        response_id: str,
        is_stored: bool,
    ) -> Self:
        """Check the request and build its prompt. Raises ApiError or RequestError."""
        logprobs = (asked.top_logprobs or 0) if asked.logprobs else None
        chat = await chat_prompt(
            service,
            asked,
            record,
            max_tokens=asked.max_completion_tokens,
            logprobs=logprobs,
            names=NAMES,
        )
        choices = service.choices(
            chat.rules, [chat.prompt], request_id=response_id, model=asked.model, record=record
        )
        return cls(
            service=service,
            body=body,
            asked=asked,
            record=record,
            choices=choices,
            parser=chat.tools.parser(),
            response=new_response(service, body, response_id=response_id, store=is_stored),
            is_stored=is_stored,
        )

    async def whole(self) -> dict[str, Any]:
        """Run to the end and return the object."""
        async for _ in self._run():
            pass
        return self.response

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield the events of a stream; the first ones go out when it is sure that there is an answer."""
        begin = (
            {"type": f"response.{kind}", "response": dict(self.response)}
            for kind in ("created", "in_progress")
        )
        number = 0
        held = b""
        for event in begin:
            held += _sse(event, number)
            number += 1
        async with aclosing(self._run()) as run:
            async for event in run:
                yield held + _sse(event, number)
                held, number = b"", number + 1
        yield held + _sse({"type": f"response.{self.response['status']}", "response": self.response}, number)

    def error_event(self, fault: ApiFault) -> bytes:
        """Return the event that ends a stream which cannot go on."""
        self.response["status"] = "failed"
        self.response["error"] = {"code": "server_error", "message": fault.message}
        failed = {"type": "response.failed", "response": self.response, "sequence_number": 2**31 - 1}
        return b"event: response.failed\ndata: %b\n\n" % msgspec.json.encode(failed)

    async def _run(self) -> AsyncGenerator[Event, None]:
        tally = Tally(self.choices, self.record)
        reason = "stop"
        async with aclosing(self.service.generate(self.choices)) as stream:
            async for piece in stream:
                tally.add(piece)
                for event in self._grow(piece):
                    yield event
                if piece.finish is not None:
                    reason = piece.finish.reason
        is_complete = reason != "length"
        for event in self.output.end(is_complete=is_complete):
            yield event
        end_response(self.response, self.record, output=self.output.items, is_complete=is_complete)
        if self.is_stored:
            await self._store()

    def _grow(self, piece: Piece) -> Iterator[Event]:
        logprobs = chat_logprobs(self.service.prompts.tokenizer, [piece])["content"] if piece.logprobs else []
        if self.parser is None:
            yield from self.output.text(piece.text, logprobs)
            return
        found: list[ParsedDelta] = [self.parser.feed(piece.text)]
        if piece.finish is not None:
            found.append(self.parser.finish(is_cut=was_cut(piece.finish)))
        for delta in found:
            yield from self.output.text(delta.content, [])
            for call in delta.calls:
                yield from self.output.call(call)

    async def _store(self) -> None:
        has_instructions = self.body.instructions is not None
        asked = self.asked.messages[1:] if has_instructions else self.asked.messages
        await self.service.responses.put(
            self.response,
            owner=self.record.owner,
            input_items=list(_input_items(self.body)),
            messages=[*asked, *_answered(self.output.items)],
        )


def _answered(items: Iterable[dict[str, Any]]) -> list[Message]:
    """Return what came out as messages of the conversation that goes on."""
    found: list[MessageItem | CallItem] = []
    for item in items:
        if item["type"] == "message":
            text = {"type": "output_text", "text": item["content"][0]["text"]}
            found.append(MessageItem.model_validate({"role": "assistant", "content": [text]}))
        else:
            names = ("type", "call_id", "name", "arguments")
            found.append(CallItem(**{name: item[name] for name in names}))
    return items_to_messages(found)


def _input_items(body: ResponseBody) -> Iterator[dict[str, Any]]:
    """Yield the input as items, each with an id."""
    if isinstance(body.input, str):
        part = {"type": "input_text", "text": body.input}
        yield {"id": _item_id(), "type": "message", "role": "user", "status": "completed", "content": [part]}
        return
    for item in body.input:
        shown = item.model_dump(exclude_none=True)
        if isinstance(shown.get("content"), str):
            kind = "output_text" if shown["role"] == "assistant" else "input_text"
            shown["content"] = [{"type": kind, "text": shown["content"]}]
        yield {"status": "completed", "id": _item_id(), **shown}


def _item_id() -> str:
    return f"msg_{secrets.token_hex(12)}"


def _sse(event: Event, number: int) -> bytes:
    data = msgspec.json.encode({**event, "sequence_number": number})
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), data)
