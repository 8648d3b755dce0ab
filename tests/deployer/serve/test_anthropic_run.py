"""A message whose client leaves in the middle of its stream."""

from collections.abc import Callable
from contextlib import closing

from fake_engine import FakeEngine, Script

from deployer.serve.anthropic_body import MessagesBody
from deployer.serve.anthropic_request import chat_body
from deployer.serve.anthropic_run import MessageRun
from deployer.serve.request_record import RequestRecord
from deployer.serve.service import Service


async def test_a_stream_that_is_closed_ends_its_sequence_at_once(
    serve: Callable[..., Service], engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(endless=True)
    asked = chat_body(
        MessagesBody.model_validate(
            {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        )
    )
    record = RequestRecord(id="a", method="POST", path="/v1/messages")
    with closing(serve()) as service:
        events = (await MessageRun.of(service, asked, record, message_id="msg_1")).events()
        for _ in range(3):
            await anext(events)
        await events.aclose()
        assert (engine.running, len(service.running)) == (0, 0)
        assert engine.left_early == ["msg_1-0"]
