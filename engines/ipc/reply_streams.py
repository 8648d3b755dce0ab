"""The streams of all sequences under way, by the id of their request. Torch-free."""

from engines.ipc.reply_queue import ReplyQueue
from engines.messages import Delta, Done, Failed, Reply


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
