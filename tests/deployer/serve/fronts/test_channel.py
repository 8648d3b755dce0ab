import asyncio
import socket

from deployer.serve.fronts.channel import Channel


async def pair(on_frame: list[bytes]) -> tuple[Channel, Channel, asyncio.Event]:
    """Return a channel that writes, one that reads into a list, and an event that tells of its end."""
    ended = asyncio.Event()
    ours, theirs = socket.socketpair()
    writer = await Channel.over(ours, on_frame=lambda _: None, on_end=lambda: None)
    reader = await Channel.over(theirs, on_frame=on_frame.append, on_end=ended.set)
    return writer, reader, ended


async def test_frames_of_any_length_come_whole_and_in_order() -> None:
    found: list[bytes] = []
    writer, reader, ended = await pair(found)
    frames = [bytes([n % 256]) * size for n, size in enumerate((0, 1, 3, 4, 70_000, 5, 3_000_000, 0, 2))]
    for frame in frames:
        writer.send(frame)
    writer.close()
    await asyncio.wait_for(ended.wait(), 10)
    assert found == frames
    reader.close()


async def test_a_frame_that_comes_in_pieces_is_told_once_it_is_whole() -> None:
    found: list[bytes] = []
    _, reader, _ = await pair(found)
    for byte in b"\x03\x00\x00\x00abc\x01\x00\x00\x00":
        reader.data_received(bytes([byte]))
    assert found == [b"abc"]
    reader.data_received(b"d")
    assert found == [b"abc", b"d"]
    reader.close()


async def test_the_end_of_one_side_is_told_to_the_other_and_sending_to_it_does_no_harm() -> None:
    writer, reader, ended = await pair([])
    writer.close()
    await asyncio.wait_for(ended.wait(), 10)
    reader.send(b"nobody")
    writer.send(b"closed")
