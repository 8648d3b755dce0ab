"""A request through an application of this process: streamed as it comes, ended when nobody listens."""

import asyncio

from starlette.types import Receive, Scope, Send

from deployer.ray_serve.asgi_call import call
from deployer.ray_serve.messages import Asked, Head

ASKED = Asked(
    method="POST",
    path="/x",
    query=b"a=1",
    headers=((b"content-type", b"text/plain"),),
    client=("10.0.0.1", 5),
    body=b"body",
    key=None,
    avoid=(),
)


async def test_pieces_come_before_the_answer_is_whole() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/x", b"a=1")
        assert await receive() == {"type": "http.request", "body": b"body", "more_body": False}
        await send({"type": "http.response.start", "status": 201, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"two"})

    pieces = call(app, ASKED, replica="r")
    assert await anext(pieces) == Head(status=201, headers=((b"a", b"b"),), replica="r")
    assert await anext(pieces) == b"one"
    go_on.set()
    assert [piece async for piece in pieces] == [b"two"]


async def test_the_application_hears_that_nobody_listens() -> None:
    heard = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert (await receive())["type"] == "http.disconnect"
        heard.set()

    pieces = call(app, ASKED, replica="r")
    await anext(pieces)
    await pieces.aclose()
    assert heard.is_set()
