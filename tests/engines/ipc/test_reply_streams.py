from engines.ipc.reply_streams import ReplyStreams
from engines.messages import Delta, Failed


def token(name: str) -> Delta:
    return Delta(request_id=name, token_ids=(1,), logprobs=())


async def test_a_stream_is_open_until_its_last_reply() -> None:
    streams = ReplyStreams()
    queue = streams.open("a")
    streams.put(token("a"))
    assert "a" in streams
    streams.put(Failed(request_id="a", code="c", message="m"))
    assert "a" not in streams
    assert isinstance(await queue.get(), Delta)
    assert isinstance(await queue.get(), Failed)


async def test_a_reply_without_a_reader_is_let_go() -> None:
    streams = ReplyStreams()
    streams.put(token("nobody"))
    queue = streams.open("a")
    assert streams.leave("a", queue), "its sequence still runs"
    assert not streams.leave("a", queue)
    streams.put(token("a"))


async def test_a_reader_that_leaves_late_does_not_take_the_stream_of_its_successor() -> None:
    streams = ReplyStreams()
    first = streams.open("a")
    streams.put(Failed(request_id="a", code="c", message="m"))
    streams.open("a")
    assert not streams.leave("a", first)
    assert "a" in streams


async def test_all_streams_end_at_once() -> None:
    streams = ReplyStreams()
    queues = [streams.open(name) for name in "ab"]
    streams.fail_all("engine_error", "gone")
    assert [await queue.get() for queue in queues] == [
        Failed(request_id=name, code="engine_error", message="gone") for name in "ab"
    ]
    assert "a" not in streams
