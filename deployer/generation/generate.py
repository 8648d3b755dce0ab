"""The path that every text takes: sequences in, pieces of text out, through the engine.

Whatever ends a request early - a stop string, an error, a client that went away - closes the engine's reply
streams, and that aborts what still runs.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

import msgspec

from deployer.generation.choices import Choice
from deployer.generation.image_inputs import remove_images
from deployer.generation.merge import merge
from deployer.generation.running_sequences import EndedBy, RunningSequences
from deployer.generation.write_submits import write_submits
from deployer.prompt.detokenize import TextStream
from deployer.prompt.tokenizer import Tokenizer
from engines.engine import Engine
from engines.errors import RequestError
from engines.messages import Delta, Done, Submit, TokenLogprobs, Usage


class AnswerError(RequestError):
    """A sequence ended without an answer; `code` and message are the engine's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """How a choice ended."""

    reason: Literal["stop", "length"]
    stop_reason: str | int | None  # stop string or stop token id; None: the model's own end, or its length
    usage: Usage


class Piece(msgspec.Struct, frozen=True, kw_only=True):  # one a token: a dataclass takes 2 us to make
    """What one choice gained; the last piece of a choice carries `finish`."""

    choice: int
    text: str
    token_ids: Sequence[int]
    logprobs: Sequence[TokenLogprobs]  # one a token, or empty
    prompt_logprobs: Sequence[TokenLogprobs] = ()  # of the next prompt tokens; the first of all has none
    finish: Finish | None = None


async def generate(
    engine: Engine, tokenizer: Tokenizer, choices: Sequence[Choice], *, running: RunningSequences
) -> AsyncGenerator[Piece, None]:
    """Yield the pieces of all choices as they come; use `contextlib.aclosing` where a loop may leave early.

    Their ids stand in `running` meanwhile. Raises AnswerError as soon as one of them fails, and ends all.
    """
    submits = await write_submits(choices, engine.pixels)
    streams = [
        _pieces(engine, ChoiceText(tokenizer, choice), submit, running)
        for choice, submit in zip(choices, submits, strict=True)
    ]
    pieces = streams[0] if len(streams) == 1 else merge(streams)
    running.add(submit.request_id for submit in submits)
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    finally:
        running.remove(submit.request_id for submit in submits)
        for submit in submits:
            remove_images(submit.images, engine.pixels)


async def _pieces(
    engine: Engine, text: "ChoiceText", submit: Submit, running: RunningSequences
) -> AsyncGenerator[Piece, None]:
    """Run one sequence. A stop string asks for its end and waits for `Done`, which knows what it cost."""
    async with aclosing(engine.submit(submit)) as replies:
        async for reply in replies:
            if isinstance(reply, Delta):
                if text.stopped_by is not None:
                    continue
                piece = text.grow(reply)
                if text.stopped_by is not None:
                    engine.abort(submit.request_id)  # at once, however slowly its client reads
                yield piece
            elif isinstance(reply, Done):
                if reply.finish_reason == "abort" and text.stopped_by is None:
                    raise _aborted(submit.request_id, by=running.ended_by(submit.request_id))
                yield text.end(reply)
            else:
                raise AnswerError(reply.message, code=reply.code)


def _aborted(sequence: str, *, by: EndedBy | None) -> AnswerError:
    """Return what the client of a sequence is told that neither its text nor its stop strings ended."""
    match by:
        case "operator":
            return AnswerError(
                f"`{sequence.rpartition('-')[0]}` was aborted by an operator (POST /admin/abort); the server "
                "goes on",
                code="aborted",
            )
        case "shutdown":
            return AnswerError(
                "the server is shutting down: the answer was not complete within server.drain_s",
                code="shutting_down",
            )
        case None:
            return AnswerError("the engine ended the answer before it was complete", code="engine_error")


class ChoiceText:
    """The text of one choice while it grows."""

    def __init__(self, tokenizer: Tokenizer, choice: Choice) -> None:
        rules = choice.text
        self.index = choice.index
        self.stopped_by: str | None = None
        self._stop_token_ids = rules.stop_token_ids
        self._has_stop = bool(rules.stop)
        self._num_tokens = 0
        self._stream = TextStream(
            tokenizer,
            stop=rules.stop,
            skip_special_tokens=rules.skip_special_tokens,
            include_stop=rules.include_stop,
            shown_ids=rules.shown_ids,
        )

    def grow(self, delta: Delta) -> Piece:
        """Take tokens; those after a stop string are dropped and not counted."""
        if not self._has_stop:
            self._num_tokens += len(delta.token_ids)
            text = self._stream.feed(delta.token_ids).text
            return Piece(
                choice=self.index,
                text=text,
                token_ids=delta.token_ids,
                logprobs=delta.logprobs,
                prompt_logprobs=delta.prompt_logprobs,
            )
        shown, taken = [], 0
        for token_id in delta.token_ids:
            taken += 1
            step = self._stream.feed((token_id,))
            shown.append(step.text)
            if step.stopped_by is not None:
                self.stopped_by = step.stopped_by
                break
        self._num_tokens += taken
        return Piece(
            choice=self.index,
            text="".join(shown),
            token_ids=delta.token_ids[:taken],
            logprobs=delta.logprobs[:taken],
            prompt_logprobs=delta.prompt_logprobs,
        )

    def end(self, done: Done) -> Piece:
        """Return what was held back, and how the choice ended."""
        usage = msgspec.structs.replace(done.usage, output_tokens=self._num_tokens)
        stop_reason: str | int | None = self.stopped_by
        if stop_reason is None and done.stop_token_id in self._stop_token_ids:
            stop_reason = done.stop_token_id
        finish = Finish(
            reason="length" if self.stopped_by is None and done.finish_reason == "length" else "stop",
            stop_reason=stop_reason,
            usage=usage,
        )
        return Piece(
            choice=self.index, text=self._stream.finish().text, token_ids=(), logprobs=(), finish=finish
        )
