"""What an engine process says while it serves, and when its silence means that it is lost. Torch-free."""

import time
from collections.abc import AsyncGenerator

from engines.errors import EngineDeadError
from engines.ipc.child import EngineChild
from engines.messages import HEARTBEAT_S, FromEngine
from engines.options import EngineOptions

STOPPED_S = 5.0  # of silence, after which a process that a signal holds up is lost


async def frames_of(child: EngineChild, options: EngineOptions) -> AsyncGenerator[list[FromEngine], None]:
    """Yield the messages of each frame; raises EngineDeadError on death or a silence longer than any step.

    A process that a signal holds up takes no step, however long one may take: it is lost sooner.
    """
    silence_s = options.step_timeout_s + HEARTBEAT_S
    heard = time.monotonic()
    while True:
        left_s = heard + silence_s - time.monotonic()
        try:
            messages = await child.receive(min(max(left_s, 0.0), STOPPED_S))
        except TimeoutError:
            if child.is_stopped:
                raise EngineDeadError(
                    f"the engine process {child.pid} is stopped by a signal (SIGSTOP) and said nothing "
                    f"for {time.monotonic() - heard:.0f} s"
                ) from None
            if time.monotonic() - heard < silence_s:
                continue
            raise EngineDeadError(
                f"the engine process {child.pid} said nothing for {silence_s:g} s "
                f"(engine.step_timeout_s={options.step_timeout_s:g})"
            ) from None
        heard = time.monotonic()
        yield messages
