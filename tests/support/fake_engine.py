"""The stand-in at the engine seam for all front-end tests: answers from a script, notes what it was asked."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from engines.engine import EngineState
from engines.errors import EngineError
from engines.ipc.pixel_files import PixelFiles
from engines.messages import Delta, Done, Failed, Ready, Reply, Submit, TokenLogprobs, Usage
from engines.stats import Stats

EOS = 256


@dataclass(kw_only=True)
class Script:
    """How the fake answers one sequence."""

    text: str = "It is a red circle."
    bunch: int = 1  # tokens a delta
    pause_s: float = 0.0  # before each delta
    endless: bool = False  # never ends by itself
    failed: tuple[str, str] | None = None  # code and message
    fail_after: int = 0  # deltas before the failure
    stop_token_id: int | None = EOS
    cached_tokens: int = 0
    logprob: float = -0.25  # of each chosen token


@dataclass
class FakeEngine:
    """An `engines.engine.Engine` in this process."""

    script: Callable[[Submit], Script] = field(default=lambda _: Script())
    state: EngineState = "ready"
    state_s: float = 2.0
    back_in_s: float | None = None
    phase: str | None = None
    fault: str | None = None
    num_restarts: int = 0
    submits: list[Submit] = field(default_factory=list)
    aborts: list[str] = field(default_factory=list)
    left_early: list[str] = field(default_factory=list)  # streams closed before their end
    seen_pixels: list[bytes] = field(default_factory=list)
    running: int = 0
    closed: bool = False
    flushes: int = 0
    gate: asyncio.Event | None = None  # where set: nothing is answered before it is

    def __post_init__(self) -> None:
        self.pixels = PixelFiles()
        self.ready: Ready | None = Ready(
            device="cpu", dtype="float32", session_len=4096, page_tokens=16, num_pages=64, page_bytes=1024,
            bytes_by_part={"weights": 1000}, phase_s={"load": 0.1},
        )  # fmt: skip
        self.stats: Stats | None = Stats(
            num_running=3, num_waiting=2, running_by_class=(), waiting_by_class=(),
            pages_used=10, pages_cached=5, pages_total=64, steps=7,
            prompt_tokens=100, cached_tokens=40, output_tokens=50, images_encoded=4, encoder_cache_hits=1,
            proposed_tokens=30, accepted_tokens=20,
            preemptions=1, step_s=0.5, wait_s=0.25, gap_s=0.125, encode_s=0.0625, phases=(),
        )  # fmt: skip

    async def start(self) -> None:
        if self.fault is not None:
            raise EngineError(self.fault)

    async def submit(self, request: Submit) -> AsyncGenerator[Reply, None]:
        self.submits.append(request)
        refs = [ref for image in request.images for ref in image.pixels]
        for ref in refs:
            self.seen_pixels.append(Path(ref.path).read_bytes())
            Path(ref.path).unlink()
        ended = False
        self.running += 1
        try:
            async for reply in self._replies(request):
                ended = isinstance(reply, Done | Failed)
                yield reply
        finally:
            self.running -= 1
            if not ended:
                self.left_early.append(request.request_id)

    def abort(self, request_id: str) -> None:
        self.aborts.append(request_id)

    def flush(self) -> None:
        self.flushes += 1

    async def close(self, *, at_once: bool = False) -> None:
        self.closed = True
        self.pixels.close()

    async def _replies(self, request: Submit) -> AsyncGenerator[Reply, None]:
        name, script, sampling = request.request_id, self.script(request), request.sampling
        if self.gate is not None:
            await self.gate.wait()
        ids = list(script.text.encode())
        made = deltas = 0
        if sampling.prompt_logprobs is not None:
            scores = _logprobs(request.token_ids[1:], sampling.prompt_logprobs, script.logprob)
            for part in (scores[:1], scores[1:]):  # as a prompt that is computed in two steps
                yield Delta(request_id=name, token_ids=(), logprobs=(), prompt_logprobs=part)
        while script.endless or made < min(len(ids), sampling.max_new_tokens):
            if script.failed is not None and deltas == script.fail_after:
                break
            if name in self.aborts:
                usage = _usage(request, made, script)
                yield Done(request_id=name, finish_reason="abort", stop_token_id=None, usage=usage)
                return
            await asyncio.sleep(script.pause_s)
            room = len(ids) if script.endless else min(len(ids), sampling.max_new_tokens)
            start = made % len(ids)
            bunch = tuple(ids[start : min(start + script.bunch, room)])
            yield Delta(
                request_id=name, token_ids=bunch, logprobs=_logprobs(bunch, sampling.logprobs, script.logprob)
            )
            made, deltas = made + len(bunch), deltas + 1
        if script.failed is not None:
            code, message = script.failed
            yield Failed(request_id=name, code=code, message=message)
            return
        cut = made < len(ids) or script.stop_token_id is None
        yield Done(
            request_id=name,
            finish_reason="length" if cut else "stop",
            stop_token_id=None if cut else script.stop_token_id,
            usage=_usage(request, made, script),
        )


def _usage(request: Submit, made: int, script: Script) -> Usage:
    return Usage(
        prompt_tokens=len(request.token_ids), cached_tokens=script.cached_tokens,
        image_tokens=sum(image.num_tokens for image in request.images), output_tokens=made,
        queue_s=0.25, prefill_s=0.5, encode_s=0.125, decode_s=1.0, num_preemptions=0,
    )  # fmt: skip


def _logprobs(ids: tuple[int, ...], top: int | None, chosen: float) -> tuple[TokenLogprobs, ...]:
    if top is None:
        return ()
    return tuple(
        TokenLogprobs(
            chosen=chosen,
            top_ids=tuple((token_id + place) % 256 for place in range(top)),
            top_logprobs=tuple(chosen - place for place in range(top)),
        )
        for token_id in ids
    )
