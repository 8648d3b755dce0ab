"""What an engine process says before it serves. Torch-free."""

import time
from collections.abc import Callable

from engines.errors import EngineError, error_of
from engines.ipc.child import EngineChild
from engines.messages import Loading, Ready, StartFailed


async def until_ready(child: EngineChild, *, timeout_s: float, on_phase: Callable[[str], None]) -> Ready:
    """Return the engine's Ready; raises what kept it from starting, or EngineError that it took too long."""
    deadline = time.monotonic() + timeout_s
    phase = "process start"
    while True:
        on_phase(phase)
        try:
            messages = await child.receive(max(deadline - time.monotonic(), 0.0))
        except TimeoutError:
            raise EngineError(
                f"the engine was not ready after {timeout_s:g} s, in phase `{phase}`: raise "
                "engine.start_timeout_s"
            ) from None
        for message in messages:
            match message:
                case Loading():
                    phase = message.phase
                case Ready():
                    return message
                case StartFailed():
                    raise error_of(message.kind, message.message)
