"""Fronts that die, hang, or serve something else: scripts in their place, in processes of their own."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from serving_configs import SERVER

from deployer.errors import UnavailableError
from deployer.serve.fronts.crew import Crew
from deployer.serve.fronts.messages import FrontStart
from deployer.serve.fronts.shared_places import places_of
from deployer.serve.response_store import ResponseStore

# A front that says what its number has it say; SAYS is filled in by each test.
FRONT = """
import socket, sys, time
from pathlib import Path
from deployer.serve.fronts.messages import Answering, FrontFailed, Listening, decode_to_front, encode
channel = socket.socket(fileno=int(sys.argv[1]))
def say(message):
    frame = encode(message)
    channel.sendall(len(frame).to_bytes(4, "little") + frame)
def heard():
    return channel.recv(int.from_bytes(channel.recv(4, socket.MSG_WAITALL), "little"), socket.MSG_WAITALL)
start = decode_to_front(heard())
first = not (Path(start.folder) / f"began{start.index}").exists()
(Path(start.folder) / f"began{start.index}").touch()
SAYS
channel.recv(1)
"""


@asynccontextmanager
async def crew(folder: Path, says: str, *, silence_s: float = 30.0) -> AsyncIterator[Crew]:
    """Run a crew of two whose fronts run a script."""
    server = replace(SERVER, processes=2)
    starts = [
        FrontStart(
            config=b"{}", keys_file=None, admin_keys_file=None, index=index, created=1, folder=str(folder)
        )
        for index in range(2)
    ]
    with closing(places_of(folder, server, index=None)) as places:
        script = FRONT.replace("SAYS", says)
        one = Crew(
            starts,
            places,
            responses=ResponseStore(100_000),
            command=(sys.executable, "-c", script),
            silence_s=silence_s,
        )
        one.start()
        try:
            yield one
        finally:
            await one.end(0.1)


async def told(caplog: pytest.LogCaptureFixture, words: Sequence[str]) -> None:
    """Wait for a line of the log that holds all words."""
    async with asyncio.timeout(20):
        while not any(all(word in line for word in words) for line in caplog.messages):
            await asyncio.sleep(0.02)


async def test_all_answer_once_each_has_said_so(tmp_path: Path) -> None:
    async with crew(tmp_path, "say(Listening()); say(Answering(fingerprint='same'))") as one:
        await asyncio.wait_for(one.all_answer(), 20)
        assert len(one.takers()) == 2


async def test_a_front_that_says_why_it_cannot_serve_ends_the_start(tmp_path: Path) -> None:
    says = "if start.index: say(FrontFailed(message='no tokenizer')); sys.exit(1)\nsay(Listening())"
    async with crew(tmp_path, says) as one:
        with pytest.raises(UnavailableError, match=r"did not start: server process 1 .*code 1: no tokenizer"):
            await asyncio.wait_for(one.all_answer(), 20)


async def test_fronts_that_die_again_and_again_end_the_start(tmp_path: Path) -> None:
    async with crew(tmp_path, "sys.exit(3)") as one:
        with pytest.raises(UnavailableError, match="ended with code 3"):
            await asyncio.wait_for(one.all_answer(), 20)


async def test_one_that_dies_once_while_the_server_starts_is_started_again(tmp_path: Path) -> None:
    says = "if first and start.index: sys.exit(3)\nsay(Listening()); say(Answering(fingerprint='same'))"
    async with crew(tmp_path, says) as one:
        await asyncio.wait_for(one.all_answer(), 20)


async def test_one_that_takes_no_turns_is_ended_and_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="deployer.serve"):
        says = "if first or not start.index: say(Listening())"
        async with crew(tmp_path, says, silence_s=0.5):
            await told(
                caplog, ("server process 1", "signal 9 (SIGKILL): it took no turn for", "started again")
            )


async def test_one_that_would_give_other_answers_gets_no_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    says = (
        "say(Listening())\n"
        "say(Answering(fingerprint='same' if first else 'changed'))\n"
        "if first and start.index: time.sleep(0.5); sys.exit(3)"
    )
    with caplog.at_level(logging.ERROR, logger="deployer.serve"):
        async with crew(tmp_path, says) as one:
            await asyncio.wait_for(one.all_answer(), 20)
            await told(
                caplog, ("server process 1", "files that it reads have changed since the server began")
            )
            assert len(one.takers()) == 1
