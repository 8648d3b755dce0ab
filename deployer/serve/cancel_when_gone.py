"""ASGI layer: a client that goes away cancels its request, wherever it stands.

Routes need no code for it: they are cancelled like any asyncio task, and closing the engine's reply stream
aborts the sequence.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployer.serve.request_record import record_in

CLIENT_GONE = 499  # nobody reads it; nginx's number for the log


class CancelWhenGone:
    """Watches the connection from the end of the body to the end of the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = asyncio.current_task()
        assert request is not None, "ASGI applications run in a task"
        watcher: asyncio.Task[None] | None = None
        answered = gone = False

        async def watch() -> None:
            nonlocal gone
            while (await receive())["type"] != "http.disconnect":
                pass
            if not answered:
                gone = True
                request.cancel()

        async def receive_then_watch() -> Message:
            nonlocal watcher
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False) and watcher is None:
                watcher = asyncio.create_task(watch())
            return message

        async def send_to_the_end(message: Message) -> None:
            nonlocal answered
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, receive_then_watch, send_to_the_end)
            if gone:
                await asyncio.sleep(
                    0
                )  # the cancellation is on its way: it lands here and not in a layer above
        except asyncio.CancelledError:
            if not gone or request.uncancel() > 0:
                raise
            record = record_in(scope)
            record.error, record.status = "client_gone", record.status or CLIENT_GONE
        finally:
            if watcher is not None:
                watcher.cancel()
