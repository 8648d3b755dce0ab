"""The front end's hold on an engine that serves it alone: submit, read replies, abort. Torch-free.

The process behind it is kept alive by `engines/ipc/supervised.py`. `submit` only ever waits on its own queue,
so it is answered whether the engine lives or not.
"""

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from engines.ipc.pixel_files import PixelFiles
from engines.ipc.reply_streams import ReplyStreams
from engines.ipc.supervised import ENGINE_COMMAND, SupervisedEngine
from engines.messages import Abort, Failed, Flush, LogLevel, Reply, Start, Submit, Vocabulary
from engines.options import EngineOptions
from engines.spec import ModelSpec


class EngineClient(SupervisedEngine):
    """An `Engine` that runs in a process of its own and comes back when it dies."""

    def __init__(
        self,
        folder: Path,
        spec: ModelSpec,
        options: EngineOptions,
        *,
        start_timeout_s: float,
        max_restarts: int,
        vocabulary: Vocabulary | None = None,
        log_level: LogLevel | None = None,
        command: Sequence[str] = ENGINE_COMMAND,
    ) -> None:
        self._streams = ReplyStreams()
        self._pixels = PixelFiles()
        super().__init__(
            Start(folder=str(folder), spec=spec, options=options, vocabulary=vocabulary, log_level=log_level),
            start_timeout_s=start_timeout_s,
            max_restarts=max_restarts,
            sink=self._streams,
            command=command,
        )

    @property
    def pixels(self) -> PixelFiles:
        """Where the pixels of a request are put before it is submitted."""
        return self._pixels

    async def start(self) -> None:
        """Start the engine and wait until it serves; raises what kept it from starting."""
        try:
            await super().start()
        except BaseException:
            self._pixels.close()
            raise

    def submit(self, request: Submit) -> AsyncGenerator[Reply, None]:
        """Yield the replies of one sequence; see `Engine.submit`."""
        return self._streams.replies(request, send=self._send, abort=self.abort, pixels=self._pixels)

    def abort(self, request_id: str) -> None:
        """Ask for the end of a sequence; its stream ends with `Done(finish_reason="abort")`."""
        self.tell(Abort(request_id=request_id))

    def flush(self) -> None:
        """Ask the engine to forget its prefix cache; one that is starting has nothing to forget."""
        self.tell(Flush())

    async def close(self, *, at_once: bool = False) -> None:
        """Stop the engine, which `at_once` leaves no time; streams still open end with Failed."""
        await super().close(at_once=at_once)
        self._pixels.close()

    def _send(self, request: Submit) -> Failed | None:
        return None if self.tell(request) else self.refusal(request.request_id)
