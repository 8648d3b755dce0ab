"""The tiny engine in the test's own process: no sockets, one step at a time."""

from collections.abc import Callable, Sequence
from typing import Any

from printable import PRINTABLE
from sequences import sampling
from tiny_engine import SPEC, image_input, load_tiny, options, tiles

from engines.ipc.pixel_files import PixelFiles
from engines.loading import load_engine
from engines.messages import Delta, Done, Failed, Ready, Reply, Start, Submit, TokenLogprobs
from engines.network_loaders import LoadNetwork
from engines.spec import ModelSpec
from engines.steps.engine_loop import EngineLoop


class LoopEngine:
    """A loop, its pixel files, and what it answered."""

    def __init__(
        self,
        pixels: PixelFiles,
        *,
        spec: ModelSpec = SPEC,
        overlap: bool | None = None,
        load: LoadNetwork = load_tiny,
        **changes: Any,
    ) -> None:
        start = Start(folder="nowhere", spec=spec, options=options(**changes), vocabulary=PRINTABLE)
        self.phases: list[str] = []
        loop, ready = load_engine(start, on_phase=self.phases.append, load=load, overlap=overlap)
        self.loop: EngineLoop = loop
        self.ready: Ready = ready
        self.tokens: dict[str, list[int]] = {}
        self.logprobs: dict[str, list[TokenLogprobs]] = {}
        self.prompt_logprobs: dict[str, list[TokenLogprobs]] = {}
        self.ends: dict[str, Done | Failed] = {}
        self._pixels = pixels

    def submit(
        self,
        prompt: Sequence[int],
        *,
        pictures: Sequence[tuple[int, int]] = (),
        priority: int = 0,
        **how: Any,
    ) -> str:
        """Queue a request and return its name; `pictures` are (start, seed) of one-tile images."""
        name = f"request-{len(self.tokens)}"
        images = tuple(
            image_input(self._pixels, tiles(seed), key=seed.to_bytes(16, "little"), start=start)
            for start, seed in pictures
        )
        self.tokens[name] = []
        self.logprobs[name] = []
        self.prompt_logprobs[name] = []
        request = Submit(
            request_id=name,
            token_ids=tuple(prompt),
            images=images,
            sampling=sampling(**how),
            priority=priority,
        )
        self.take(self.loop.submit(request))
        return name

    def take(self, replies: Sequence[Reply]) -> None:
        """Note replies; a second end of one request is an error."""
        for reply in replies:
            assert reply.request_id not in self.ends, "a reply after the end"
            if isinstance(reply, Delta):
                self.tokens[reply.request_id] += reply.token_ids
                self.logprobs[reply.request_id] += reply.logprobs
                self.prompt_logprobs[reply.request_id] += reply.prompt_logprobs
            else:
                self.ends[reply.request_id] = reply

    def step(self) -> None:
        """Run one step."""
        self.take(self.loop.step())
        self.loop._scheduler.check_integrity()

    def run(self) -> None:
        """Run until nothing is left."""
        while self.loop.has_work:
            self.step()
        assert self.loop.stats().pages_used == 0

    def done(self, name: str) -> Done:
        """The end of a request, which must be a good one."""
        end = self.ends[name]
        assert isinstance(end, Done), end
        return end

    def failed(self, name: str) -> Failed:
        """The end of a request, which must be a bad one."""
        end = self.ends[name]
        assert isinstance(end, Failed), end
        return end


MakeEngine = Callable[..., LoopEngine]
