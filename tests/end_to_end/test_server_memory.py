"""Memory of a server that works on pictures in many threads."""

import platform
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from live_server import LiveServer
from storm.clients import bodies, closed, counted

HEAP_BYTES = 64 << 20  # glibc maps the heap of a further arena whole and aligned, and opens it as it grows


def num_further_arenas(pid: int) -> int:
    """Return the arenas beside the first: mapped parts that begin a heap and leave its rest closed."""
    lines = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    spans = [(*(int(end, 16) for end in words[0].split("-")), words[1]) for words in lines]
    return sum(
        start % HEAP_BYTES == 0 and (mode, rest_mode) == ("rw-p", "---p") and rest_end == start + HEAP_BYTES
        for (start, _, mode), (_, rest_end, rest_mode) in pairwise(spans)
    )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no arenas")
async def test_all_threads_of_a_server_allocate_from_two_arenas(server: LiveServer) -> None:
    asked = bodies(16, stream="arenas", output_tokens=1, side=64)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        assert counted(await closed(client, asked, 8)) == "16 ok"
    assert num_further_arenas(server.process.pid) == 1
