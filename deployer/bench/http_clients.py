"""The processes that ask a server over HTTP, so that reading its streams does not bound what is measured."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import msgspec

from deployer.bench.client_process import NO_MORE, TICKET, Outcome, Round
from deployer.bench.online import AskedServer, HttpAsk
from deployer.bench.token_samples import TokenSample
from deployer.errors import UnavailableError

AT_ONCE_EACH = 8  # requests at once of one process, where nobody says how many processes there are


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpRound:
    """What a load over HTTP came to."""

    samples: list[TokenSample]
    seconds: float
    busiest: float  # CPU seconds a second of the busiest process that asked; near 1 it bounds the figures


class ClientProcess:
    """One process and the connection to it."""

    def __init__(self, server: AskedServer, tickets: int) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = (
                sys.executable,
                "-m",
                "deployer.bench.client_process",
                str(theirs.fileno()),
                str(tickets),
            )
            # A session of its own: Ctrl-C reaches the parent alone.
            self.process = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(), tickets),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._connection = Connection(ours.detach())
        self._connection.send_bytes(msgspec.msgpack.encode(server))

    def arm(self, work: Round) -> None:
        """Hand over what is asked and wait until it lies ready. Raises EOFError where the process is gone."""
        self._connection.send_bytes(msgspec.msgpack.encode(work))
        self._connection.recv_bytes()

    def go(self) -> None:
        """Begin."""
        self._connection.send_bytes(b"go")

    def outcome(self) -> Outcome:
        """Wait for the end of the round. Raises EOFError where the process is gone."""
        return msgspec.msgpack.decode(self._connection.recv_bytes(), type=Outcome)

    def close(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        self._connection.close()


class HttpClients:
    """All processes that ask one server."""

    def __init__(self, server: AskedServer, *, count: int) -> None:
        self._tickets, self._write_tickets = os.pipe()
        self._clients: list[ClientProcess] = []
        try:
            for _ in range(count):
                self._clients.append(ClientProcess(server, self._tickets))
        except OSError as error:
            self.close()
            raise UnavailableError(
                f"process {len(self._clients) + 1} of {count} that ask over HTTP does not start: "
                f"{error.strerror or error}; set a lower bench.clients"
            ) from error

    async def measure(self, asks: Sequence[HttpAsk], concurrency: int) -> HttpRound:
        """Ask everything, `concurrency` at a time. Raises UnavailableError where one is not answered."""
        return await asyncio.to_thread(self._measure, asks, concurrency)

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """The processes themselves."""
        return [client.process for client in self._clients]

    def close(self) -> None:
        """End the processes."""
        for client in self._clients:
            client.close()
        os.close(self._tickets)
        os.close(self._write_tickets)

    def _measure(self, asks: Sequence[HttpAsk], concurrency: int) -> HttpRound:
        shares = shares_of(concurrency, len(self._clients))
        try:
            for client, at_once in zip(self._clients, shares, strict=True):
                client.arm(Round(asks=list(asks), at_once=at_once))
            # A pipe holds some thousand tickets; the rest goes in while they are taken.
            numbers = [*range(len(asks)), *[NO_MORE] * concurrency]
            threading.Thread(target=self._hand_out, args=(numbers,), daemon=True).start()
            begin_s, cores = time.perf_counter(), []
            for client in self._clients:
                client.go()
            outcomes = [client.outcome() for client in self._clients]
        except (EOFError, OSError) as error:
            raise UnavailableError("a process of the benchmark that asks over HTTP is gone") from error
        for outcome in outcomes:
            if outcome.fault is not None:
                raise UnavailableError(outcome.fault)
            cores.append(outcome.cpu_s / (outcome.end_s - begin_s))
        return HttpRound(
            samples=[sample for outcome in outcomes for sample in outcome.samples],
            seconds=max(outcome.end_s for outcome in outcomes) - begin_s,
            busiest=max(cores),
        )

    def _hand_out(self, numbers: Sequence[int]) -> None:
        data = b"".join(TICKET.pack(number) for number in numbers)
        with suppress(OSError):  # the round failed and the pipe was closed
            while data:
                data = data[os.write(self._write_tickets, data) :]


@asynccontextmanager
async def http_clients(
    server: AskedServer, *, clients: int | None, most_at_once: int
) -> AsyncGenerator[HttpClients, None]:
    """Start the processes; they end with the block. `clients` is `bench.clients`."""
    count = clients or max(1, min(most_at_once // AT_ONCE_EACH, len(os.sched_getaffinity(0)) // 2))
    asking = HttpClients(server, count=min(count, most_at_once))
    try:
        yield asking
    finally:
        asking.close()


def shares_of(total: int, count: int) -> list[int]:
    """Return `count` numbers that differ by one at most and make `total` together."""
    return [(total + number) // count for number in range(count)]
