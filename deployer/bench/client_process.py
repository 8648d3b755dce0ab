"""One of the processes that ask a server over HTTP: `python -m deployer.bench.client_process FD TICKETS`.

FD is the connection to `http_clients.py`, which starts it and sends a `Round`, hears `ARMED`, says go, and
gets an `Outcome`. A round whose other side is gone is left at once. TICKETS is the end of a pipe that all
these processes read: each ticket is the number of a request that nobody has asked yet, so that together they
ask as one process with one queue would.
"""

import asyncio
import os
import signal
import struct
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import httpx
import msgspec
import uvloop

from deployer.bench.online import AskedServer, HttpAsk, ask_server
from deployer.bench.token_samples import TokenSample
from deployer.errors import UnavailableError

TICKET = struct.Struct("=I")
NO_MORE = 2**32 - 1  # the ticket that sends one worker home
ARMED = b"armed"


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked now, by all processes together."""

    asks: list[HttpAsk]
    at_once: int  # requests of this process


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one process has to say of a round."""

    samples: list[TokenSample]
    end_s: float  # time.perf_counter()
    cpu_s: float  # its own
    fault: str | None  # why the round failed


def main(descriptor: int, tickets: int) -> int:
    """Ask rounds until the other side closes; returns the exit code."""
    for number in (signal.SIGINT, signal.SIGHUP):  # of a terminal: the parent's business
        signal.signal(number, signal.SIG_IGN)
    connection = Connection(descriptor)
    with suppress(EOFError, OSError), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        server = msgspec.msgpack.decode(connection.recv_bytes(), type=AskedServer)
        runner.run(_serve(connection, tickets, server))
    return 0


async def _serve(connection: Connection, tickets: int, server: AskedServer) -> None:
    """Ask over the same connections in every round. Raises EOFError at the end."""
    async with server.client() as client:
        while True:
            # Nothing else is under way between two rounds: the loop may stand still.
            work = msgspec.msgpack.decode(connection.recv_bytes(), type=Round)
            connection.send_bytes(ARMED)
            connection.recv_bytes()
            outcome = await _while_heard(connection, outcome_of(client, work, tickets))
            connection.send_bytes(msgspec.msgpack.encode(outcome))


async def _while_heard(connection: Connection, asking: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Return the outcome of a round. Raises EOFError where the other side closes before."""
    loop, task = asyncio.get_running_loop(), asyncio.create_task(asking)
    # Nothing is sent in the middle of a round, so that what there is to read is the end.
    loop.add_reader(connection.fileno(), task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise EOFError from None
    finally:
        loop.remove_reader(connection.fileno())
        os.set_blocking(connection.fileno(), True)  # libuv takes that away from what it watches


async def outcome_of(client: httpx.AsyncClient, work: Round, tickets: int) -> Outcome:
    """Ask what the tickets say, `work.at_once` at a time."""
    samples: list[TokenSample] = []
    cpu_s, fault = time.process_time(), None

    async def worker() -> None:
        while (number := TICKET.unpack(os.read(tickets, TICKET.size))[0]) != NO_MORE:
            samples.append(await ask_server(client, work.asks[number]))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(work.at_once):
                group.create_task(worker())
    except* UnavailableError as errors:
        fault = str(errors.exceptions[0])
    return Outcome(samples=samples, end_s=time.perf_counter(), cpu_s=time.process_time() - cpu_s, fault=fault)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
