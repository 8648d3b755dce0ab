"""One message from its prompt to its end, streamed or not."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from deployer.generation.choices import Choice
from deployer.generation.generate import Finish, Piece
from deployer.generation.tool_parser import ParsedDelta, ToolParser
from deployer.serve.anthropic_errors import error_event
from deployer.serve.anthropic_output import Event, MessageOutput
from deployer.serve.anthropic_request import NAMES
from deployer.serve.api_errors import ApiFault
from deployer.serve.chat_prompt import chat_prompt
from deployer.serve.openai_types import ChatBody
from deployer.serve.request_record import RequestRecord
from deployer.serve.service import Service
from deployer.serve.tool_answers import was_cut
from deployer.serve.usage import Tally


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageRun:
    """A message that is ready to run."""

    service: Service
    record: RequestRecord
    choices: list[Choice]
    parser: ToolParser | None  # None: calls are not looked for
    stop_sequences: tuple[str, ...]  # the request's own
    message: dict[str, Any]
    output: MessageOutput = field(default_factory=MessageOutput)

    @classmethod
    async def of(cls, service: Service, asked: ChatBody, record: RequestRecord, *, message_id: str) -> Self:
        """Check the request and build its prompt. Raises ApiError or RequestError."""
        chat = await chat_prompt(
            service, asked, record, max_tokens=asked.max_tokens, logprobs=None, names=NAMES
        )
        choices = service.choices(
            chat.rules, [chat.prompt], request_id=message_id, model=asked.model, record=record
        )
        return cls(
            service=service,
            record=record,
            choices=choices,
            parser=chat.tools.parser(),
            stop_sequences=tuple(asked.stop or ()),
            message=_new_message(message_id, model=record.model),
        )

    async def whole(self) -> dict[str, Any]:
        """Run to the end and return the object."""
        async for _ in self._run():
            pass
        return self.message

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield the events of a stream; the first ones go out when it is sure that there is an answer."""
        held = b""
        async with aclosing(self._run()) as run:
            async for event in run:
                held += _sse(event)
                if event["type"] != "message_start":
                    yield held
                    held = b""

    def error_event(self, fault: ApiFault) -> bytes:
        """Return the event that ends a stream which cannot go on."""
        return error_event(fault, request_id=self.record.id)

    async def _run(self) -> AsyncGenerator[Event, None]:
        tally = Tally(self.choices, self.record)
        self.message["usage"] = _usage(self.record)
        yield {"type": "message_start", "message": dict(self.message)}
        finish = None
        async with aclosing(self.service.generate(self.choices)) as stream:
            async for piece in stream:
                tally.add(piece)
                for event in self._grow(piece):
                    yield event
                finish = piece.finish
        assert finish is not None, "the last piece says how the answer ended"
        for event in self.output.end():
            yield event
        ended, usage = self._ended(finish), _usage(self.record)
        self.message.update(content=self.output.content(), **ended, usage=usage)
        yield {"type": "message_delta", "delta": ended, "usage": usage}
        yield {"type": "message_stop"}

    def _grow(self, piece: Piece) -> Iterator[Event]:
        if self.parser is None:
            yield from self.output.text(piece.text)
            return
        found: list[ParsedDelta] = [self.parser.feed(piece.text)]
        if piece.finish is not None:
            found.append(self.parser.finish(is_cut=was_cut(piece.finish)))
        for delta in found:
            yield from self.output.text(delta.content)
            for call in delta.calls:
                yield from self.output.call(call)

    def _ended(self, finish: Finish) -> dict[str, Any]:
        """Return why the message ended; a stop word of the template's is the model's own end."""
        reason, sequence = "end_turn", None
        if finish.reason == "length":
            reason = "max_tokens"
        elif isinstance(finish.stop_reason, str) and finish.stop_reason in self.stop_sequences:
            reason, sequence = "stop_sequence", finish.stop_reason
        elif self.output.num_calls:
            reason = "tool_use"
        return {"stop_reason": reason, "stop_sequence": sequence}


def _new_message(message_id: str, *, model: str) -> dict[str, Any]:
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _usage(record: RequestRecord) -> dict[str, Any]:
    """Return what was read and written; what came from the cache is no input. `image_*` are ours."""
    return {
        "input_tokens": record.prompt_tokens - record.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": record.cached_tokens,
        "output_tokens": record.output_tokens,
        "image_tokens": record.image_tokens,
        **record.notes(),
    }


def _sse(event: Event) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))
