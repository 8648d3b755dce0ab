"""Replies of one sequence between the socket and their reader. Torch-free.

A reader that fell behind catches up in one piece: deltas that wait behind each other are handed out as one,
so that a busy front end spends less on each token, not more.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from engines.messages import Delta, Reply


class ReplyQueue:
    """A queue for one reader."""

    def __init__(self) -> None:
        self._waiting: deque[Reply] = deque()
        self._reader: asyncio.Future[None] | None = None  # that waits; an Event costs twice

    def put(self, reply: Reply) -> None:
        """Add a reply."""
        self._waiting.append(reply)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> Reply:
        """Wait for the next reply; all deltas at the front come as one."""
        while not self._waiting:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        reply = self._waiting.popleft()
        if not isinstance(reply, Delta):
            return reply
        deltas = [reply]
        while self._waiting and isinstance(self._waiting[0], Delta):
            deltas.append(self._waiting.popleft())  # type: ignore[arg-type]  # a Delta, one line above
        return reply if len(deltas) == 1 else _joined(deltas)


def _joined(deltas: Sequence[Delta]) -> Delta:
    return Delta(
        request_id=deltas[0].request_id,
        token_ids=tuple(token_id for delta in deltas for token_id in delta.token_ids),
        logprobs=tuple(logprobs for delta in deltas for logprobs in delta.logprobs),
        prompt_logprobs=tuple(logprobs for delta in deltas for logprobs in delta.prompt_logprobs),
    )
