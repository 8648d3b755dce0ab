"""A response whose client leaves in the middle of its stream."""

from collections.abc import Callable
from contextlib import closing

from fake_engine import FakeEngine, Script

from deployer.serve.request_record import RequestRecord
from deployer.serve.response_request import chat_body
from deployer.serve.response_run import ResponseRun
from deployer.serve.response_types import ResponseBody
from deployer.serve.service import Service


async def test_a_stream_that_is_closed_ends_its_sequence_at_once(
    serve: Callable[..., Service], engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(endless=True)
    body = ResponseBody(input="What is it?", stream=True)
    record = RequestRecord(id="a", method="POST", path="/v1/responses")
    with closing(serve()) as service:
        run = await ResponseRun.of(
            service, body, chat_body(body, ()), record, response_id="resp_1", is_stored=False
        )
        events = run.events()
        for _ in range(3):
            await anext(events)
        await events.aclose()
        assert (engine.running, len(service.running)) == (0, 0)
        assert engine.left_early == ["resp_1-0"]
