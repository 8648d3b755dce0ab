"""Damaged pictures sent to a live server: each is answered or refused with a reason, and memory stays.

    PYTHONPATH=tests/support python tests/conformance/mutated_over_http.py [COUNT] [WORDS of deploy]

Every request has one picture and one token of answer. A line every thousand, the figures at the end; the exit
code is 1 where an answer was neither a 200 nor a 400 that names the picture.
"""

import asyncio
import base64
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator

import httpx
from live_server import live_server
from mutations import mutated, originals
from storm.watch import Watch

IN_FLIGHT = 16
COUNT = 10_000
# One tile a picture and small caches: what is asked for is many pictures, and memory that stays.
WORDS = (
    "+model=pocket_vl", "vision.max_tiles=1", "vision.cache_bytes=16777216", "engine.num_gpu_blocks=256",
    "server.log_level=warning",
)  # fmt: skip


def bodies(count: int) -> Iterator[bytes]:
    """Yield requests; the same ones for the same count."""
    dice = random.Random(0)
    files = originals(dice)
    for _ in range(count):
        picture = base64.b64encode(mutated(dice.choice(files), dice)).decode()
        parts = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}]
        message = {"role": "user", "content": [*parts, {"type": "text", "text": "What is it?"}]}
        yield json.dumps({"messages": [message], "max_tokens": 1}).encode()


async def ask(client: httpx.AsyncClient, body: bytes) -> str:
    """Return how a request ended: `answered`, the code of a refusal of its picture, or what was wrong."""
    try:
        reply = await client.post("/v1/chat/completions", content=body)
    except httpx.HTTPError as error:
        return f"WRONG: {type(error).__name__}"
    if reply.status_code == 200:
        return "answered"
    error = reply.json()["error"]
    if (
        reply.status_code == 400
        and error["code"].startswith("image_")
        and error["message"].startswith("image 1: ")
    ):
        return str(error["code"])
    return f"WRONG: {reply.status_code} {reply.text[:200]}"


async def send(url: str, count: int, watch: Watch) -> Counter[str]:
    """Send everything, IN_FLIGHT at once; memory is looked at every twentieth of them."""
    found: Counter[str] = Counter()
    waiting, begin = bodies(count), time.perf_counter()
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120) as client:

        async def one() -> None:
            for body in waiting:
                found[await ask(client, body)] += 1
                if found.total() % 1000 == 0:
                    print(f"{found.total()} after {time.perf_counter() - begin:.0f} s", flush=True)
                if found.total() % max(1, count // 20) == 0:
                    await asyncio.to_thread(watch.look)

        await asyncio.gather(*(one() for _ in range(IN_FLIGHT)))
    return found


def main(words: list[str]) -> int:
    """Run it and print what came."""
    count = int(words[0]) if words else COUNT
    with live_server(*(words[1:] or WORDS)) as server:
        watch = Watch(server)
        found = asyncio.run(send(server.url, count, watch))
        status = server.end()
    for how, number in found.most_common():
        print(f"{number:6} {how}")
    for part in ("server", "engine"):
        print(f"{part}: {watch.quarters(part)} by quarters of the requests")
    print(f"exit code after SIGTERM: {status}")
    return 1 if status or any(how.startswith("WRONG") for how in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
