"""The streams of all sequences under way, by the id of their request. Torch-free."""

from collections.abc import AsyncGenerator, Callable, Sequence

from engines.ipc.pixel_files import PixelFiles
from engines.ipc.reply_queue import ReplyQueue
from engines.messages import Delta, Done, Failed, Reply, Submit


class ReplyStreams:
    """One queue a sequence, from its submission to its last reply."""

    def __init__(self) -> None:
        self._queues: dict[str, ReplyQueue] = {}

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._queues

    def open(self, request_id: str) -> ReplyQueue:
        """Return the queue of a new sequence."""
        queue = self._queues[request_id] = ReplyQueue()
        return queue

    async def replies(
        self,
        request: Submit,
        *,
        send: Callable[[Submit], Failed | None],
        abort: Callable[[str], None],
        pixels: PixelFiles,
    ) -> AsyncGenerator[Reply, None]:
        """Send a request and yield its replies, as `Engine.submit` says; its pixel files are gone after it.

        `send` returns why nothing was sent, None where it was; `abort` ends a sequence whose reader left.
        """
        name = request.request_id
        try:
            if name in self:
                why = f"request id `{name}` is in use"
                yield Failed(request_id=name, code="invalid_request", message=why)
                return
            queue = self.open(name)
            try:
                refusal = send(request)
                if refusal is not None:
                    self.put(refusal)
                reply: Reply | None = None
                while not isinstance(reply, Done | Failed):
                    reply = await queue.get()
                    yield reply
            finally:
                if self.leave(name, queue):
                    abort(name)
        finally:
            for image in request.images:
                for ref in image.pixels:
                    pixels.remove(ref)

    def put_all(self, replies: Sequence[Reply]) -> None:
        """Hand each reply to its reader."""
        for reply in replies:
            self.put(reply)

    def put(self, reply: Reply) -> None:
        """Hand a reply to its reader, if there still is one; the last one closes the stream."""
        match reply:
            case Delta():
                queue = self._queues.get(reply.request_id)
            case Done() | Failed():
                queue = self._queues.pop(reply.request_id, None)
        if queue is not None:
            queue.put(reply)

    def leave(self, request_id: str, queue: ReplyQueue) -> bool:
        """Forget a queue whose reader left; True where its sequence had not ended."""
        is_open = self._queues.get(request_id) is queue
        if is_open:
            del self._queues[request_id]
        return is_open

    def fail_all(self, code: str, why: str) -> None:
        """End all streams."""
        queues, self._queues = self._queues, {}
        for name, queue in queues.items():
            queue.put(Failed(request_id=name, code=code, message=why))
