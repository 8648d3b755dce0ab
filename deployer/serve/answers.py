"""What both completion routes make of a request's pieces: one JSON object, or a stream of chunks.

A route says what differs: what a choice holds, and how its log-probabilities look.
"""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from fastapi import Response

from deployer.generation.choices import Choice
from deployer.generation.generate import Piece
from deployer.serve.request_record import RequestRecord
from deployer.serve.service import Service
from deployer.serve.sse import DONE, ChunkWriter
from deployer.serve.usage import Tally

NO_DELTA = b'"delta":{}'


async def whole_answer(
    service: Service,
    choices: Sequence[Choice],
    record: RequestRecord,
    *,
    object_name: str,
    content: Callable[[Choice, Sequence[Piece]], dict[str, Any]],
    kept: Callable[[Sequence[Sequence[Piece]]], Sequence[int]] | None = None,
) -> Response:
    """Wait for all pieces and return them as one object; `content` gives a choice's text and logprobs.

    `kept`: which choices are returned, in which order; None: all.
    """
    pieces: list[list[Piece]] = [[] for _ in choices]
    tally = Tally(choices, record)
    async with aclosing(service.generate(choices)) as stream:
        async for piece in stream:
            tally.add(piece)
            pieces[piece.choice].append(piece)
    places = range(len(choices)) if kept is None else kept(pieces)
    answer = {
        "id": record.completion,
        "object": object_name,
        "created": int(time.time()),
        "model": record.model,
        "choices": [
            _ended(index, pieces[place], content(choices[place], pieces[place]))
            for index, place in enumerate(places)
        ],
        "usage": tally.usage(),
    }
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _ended(index: int, pieces: Sequence[Piece], content: dict[str, Any]) -> dict[str, Any]:
    finish = pieces[-1].finish
    assert finish is not None, "the last piece of a choice says how it ended"
    return {
        "index": index,
        "finish_reason": finish.reason,
        "stop_reason": finish.stop_reason,
        **content,
    }


def _nothing(_: Piece) -> bytes:
    return b""


async def chunks(
    service: Service,
    choices: Sequence[Choice],
    record: RequestRecord,
    *,
    writer: ChunkWriter,
    logprobs: Callable[[Piece], dict[str, Any]],
    opening: bytes = b"",
    before: Callable[[Piece], bytes] = _nothing,
    delta: Callable[[Piece], tuple[bytes, str | None]] | None = None,
) -> AsyncGenerator[bytes, None]:
    """Yield the events of a stream; `opening` goes out with the first, when it is sure that there is one.

    The end of the last choice comes in one piece with `[DONE]`, since each piece is a write to the socket.
    `before`: what stands in front of a piece's own event. `delta`: the JSON field of a piece and why its
    choice ended; None: its text, as it ended.
    """
    tally, unfinished, end = Tally(choices, record), len(choices), b""
    async with aclosing(service.generate(choices)) as stream:
        async for piece in stream:
            tally.add(piece)
            unfinished -= piece.finish is not None
            first = before(piece)
            if first:
                yield opening + first
                opening = b""
            if piece.text or piece.logprobs or piece.finish:
                found = logprobs(piece) if piece.logprobs else None
                if delta is None:
                    event = writer.text(piece.choice, piece.text, logprobs=found, finish=piece.finish)
                else:
                    field, reason = delta(piece)
                    if field == NO_DELTA and reason is None and found is None:
                        continue
                    event = writer.raw(
                        piece.choice, field, logprobs=found, finish=piece.finish, reason=reason
                    )
                if unfinished:
                    yield opening + event
                else:
                    end += opening + event
                opening = b""
    yield end + (writer.usage(tally.usage()) if writer.with_usage else b"") + DONE
