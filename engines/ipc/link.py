"""The engine process's end of the socket to its parent."""

import signal
from collections.abc import Sequence
from types import FrameType

import zmq

from engines.ipc.last_words import leave_last_words
from engines.ipc.wire import decode_to_engine, encode_from_engine
from engines.messages import FromEngine, ToEngine

MESSAGES_A_TURN = 32
LAST_WORDS_MS = 2000  # how long what was said may take to leave a process that ends


class Link:
    """The socket to the parent, and whether somebody asked the process to leave."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.set_hwm(0)
        self._socket.setsockopt(zmq.LINGER, LAST_WORDS_MS)
        self._socket.connect(endpoint)
        self.is_asked_to_leave = False

    def wait(self) -> ToEngine:
        """Return the next message."""
        return decode_to_engine(self._socket.recv())

    def inbox(self, timeout_s: float) -> list[ToEngine]:
        """Return what is here, after waiting for a first message; the rest of a flood waits a turn."""
        messages: list[ToEngine] = []
        timeout_ms = int(timeout_s * 1000)
        while len(messages) < MESSAGES_A_TURN and self._socket.poll(timeout_ms):
            messages.append(decode_to_engine(self._socket.recv()))
            timeout_ms = 0
        return messages

    def send(self, messages: Sequence[FromEngine]) -> None:
        """Send messages as one frame; nothing is sent for none."""
        if messages:
            self._socket.send(encode_from_engine(messages))

    def leave_word(self, words: str) -> None:
        """Say why this process is about to end where the parent looks for it; any thread may."""
        leave_last_words(self._endpoint, words)

    def close(self) -> None:
        """Let what was said leave, and close."""
        self._socket.close()
        self._context.term()

    def leave_on_signals(self) -> None:
        """Take SIGTERM and SIGINT as Stop; before this they end the process at once."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_asked_to_leave = True
