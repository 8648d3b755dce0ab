"""Connections from the process that accepts to those that answer."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from deployer.serve.fronts.acceptor import Acceptor
from deployer.serve.fronts.handover import hand_over


class Counting:
    """Takes connections over a pair, as many as it is asked to."""

    def __init__(self, ends: ExitStack, *, room: int = 100) -> None:
        self.ours, self.theirs = map(ends.enter_context, socket.socketpair())
        self._ends = ends
        self.ours.setblocking(False)
        self.room = room
        self.num_handed = 0

    def hand_over(self, connection: socket.socket) -> bool:
        if self.num_handed >= self.room or not hand_over(connection, self.ours):
            return False
        self.num_handed += 1
        return True

    def taken(self) -> list[socket.socket]:
        """Return what came."""
        found = []
        for _ in range(self.num_handed):
            _, files, _, _ = socket.recv_fds(self.theirs, 1, 1)
            found += [self._ends.enter_context(socket.socket(fileno=file)) for file in files]
        return found


def fewest_first(takers: Sequence[Counting]) -> list[Counting]:
    return sorted(takers, key=lambda taker: taker.num_handed)


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    """What is closed after a test."""
    with ExitStack() as stack:
        yield stack


async def connected(listener: socket.socket, count: int, ends: ExitStack) -> list[socket.socket]:
    """Return clients of a socket; all have been accepted by the system."""
    loop, clients = asyncio.get_running_loop(), []
    for _ in range(count):
        client = ends.enter_context(socket.socket())
        client.setblocking(False)
        await loop.sock_connect(client, listener.getsockname())
        clients.append(client)
    return clients


async def settled(takers: Sequence[Counting], total: int) -> None:
    async with asyncio.timeout(10):
        while sum(taker.num_handed for taker in takers) < total:
            await asyncio.sleep(0.01)


async def test_each_connection_goes_to_who_has_fewest_and_says_what_the_client_says(ends: ExitStack) -> None:
    takers = [Counting(ends), Counting(ends), Counting(ends)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = Acceptor(listener, lambda: fewest_first(takers))
        acceptor.open()
        clients = await connected(listener, 90, ends)
        await settled(takers, 90)
        acceptor.close()
    assert [taker.num_handed for taker in takers] == [30, 30, 30]
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    said = {connection.recv(10) for taker in takers for connection in taker.taken()}
    assert said == {b"%d" % number for number in range(90)}


async def test_connections_wait_while_nobody_takes_any(ends: ExitStack) -> None:
    takers: list[Counting] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = Acceptor(listener, lambda: fewest_first(takers))
        acceptor.open()
        await connected(listener, 5, ends)
        await asyncio.sleep(0.1)
        full, free = Counting(ends, room=2), Counting(ends, room=0)
        takers += [full, free]
        await settled(takers, 2)
        await asyncio.sleep(0.1)
        assert (full.num_handed, free.num_handed) == (2, 0)
        free.room = 100
        await settled(takers, 5)
        acceptor.close()
    assert free.num_handed == 3


async def test_who_is_gone_takes_nothing_and_another_does(ends: ExitStack) -> None:
    gone, there = Counting(ends), Counting(ends)
    gone.theirs.close()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = Acceptor(listener, lambda: [gone, there])
        acceptor.open()
        await connected(listener, 3, ends)
        await settled([there], 3)
        acceptor.close()
    assert gone.num_handed == 0
