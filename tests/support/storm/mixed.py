"""All kinds of requests side by side for long: how each kind ends, and what is held when all is over.

Texts, pictures, forms that an answer must have, rows of adapters, and streams that are hung up on.
`pocket_vl`, whose weights are here, gets two adapters of random pairs; another model is asked without.
"""

import asyncio
import json
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import httpx
from live_server import live_server
from lora import pairs, write_adapter
from safetensors.torch import load_file

from deployer.bench.workload import text
from storm.clients import PATH, Outcome, ask, bodies, counted, new_client, p99_ms
from storm.interrupt import interrupt, waited
from storm.load import SAMPLE_EVERY_S, SMALL_CACHES, Storm, memory_rows, reasons
from storm.watch import Watch, held_at_rest

POCKET_VL = Path(__file__).parents[3] / "deployer/models/pocket_vl/model.safetensors"
ADAPTED = ("attention.wqkv", "attention.wo", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
COLOURS = ("red", "green", "blue")
FORM = {
    "type": "object",
    "properties": {"colour": {"enum": COLOURS}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
Ask = Callable[[httpx.AsyncClient, random.Random], Coroutine[None, None, Outcome]]
Books = dict[str, list[Outcome]]


async def mixed(storm: Storm) -> Iterator[tuple[str, str]]:
    """Yield (figure, value) of `clients`, each asking one thing after another for `minutes`."""
    with tempfile.TemporaryDirectory() as folder, interrupt() as stop:
        adapters = _adapters(Path(folder)) if "+model=pocket_vl" in storm.words else {}
        named = json.dumps([f"{name}={path}" for name, path in adapters.items()])
        own = [word for word in SMALL_CACHES if not any(word.split("=")[0] in given for given in storm.words)]
        words = (*storm.words, *own, f"engine.adapters={named}", f"server.max_requests={2 * storm.clients}")
        with live_server(*words, environment={"OMP_NUM_THREADS": ""}, own_session=True) as server:
            print(f"ready at {server.url}", flush=True)
            kinds, books, watch = _kinds(storm, tuple(adapters)), Books(), Watch(server)
            clients = [_client(server.url, number, kinds, books, stop) for number in range(storm.clients)]
            gpu_mib, *_ = await asyncio.gather(_watched(watch, 60 * storm.minutes, stop), *clients)
            held = await held_at_rest(server, patience_s=30.0)
            code = await asyncio.to_thread(server.end, seconds=40.0)
    told = [outcome for outcomes in books.values() for outcome in outcomes]
    return iter(
        (
            ("clients, minutes", f"{storm.clients}, {watch.seconds / 60:.1f}"),
            *(
                (kind, f"{counted(found)}, p99 {p99_ms(found):.0f} ms")
                for kind, found in sorted(books.items())
            ),
            *memory_rows(watch, len(told)),
            *(
                [("GPU: memory in use, first and last", f"{gpu_mib[0]}, {gpu_mib[-1]} MiB")]
                if gpu_mib
                else []
            ),
            ("held then", held),
            ("exit after SIGTERM", str(code)),
            *reasons(told),
        )
    )


def _ended(outcomes: list[Outcome]) -> str:
    answered = any(outcome.end == "ok" for outcome in outcomes)
    return counted(outcomes) + (f", p99 {p99_ms(outcomes):.0f} ms" if answered else "")


async def _watched(watch: Watch, seconds: float, stop: asyncio.Event) -> list[int]:
    """Take samples until the time is over; return what was in use of the GPU at each, nothing without one."""
    gpu_mib: list[int] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds and not await waited(stop, SAMPLE_EVERY_S):
        await asyncio.to_thread(watch.look)
        gpu_mib += await asyncio.to_thread(_gpu_mib)
    stop.set()
    return gpu_mib


def _gpu_mib() -> list[int]:
    if shutil.which("nvidia-smi") is None:
        return []
    command = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0")
    return [int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)]


async def _client(url: str, number: int, kinds: dict[str, Ask], books: Books, stop: asyncio.Event) -> None:
    chance = random.Random(number)
    async with new_client(url) as connection:
        while not stop.is_set():
            kind, begin = chance.choice(sorted(kinds)), time.perf_counter()
            try:
                outcome = await kinds[kind](connection, chance)
            except httpx.HTTPError as error:
                seconds = time.perf_counter() - begin
                outcome = Outcome(end="lost", seconds=seconds, said=type(error).__name__)
            books.setdefault(kind, []).append(outcome)


def _kinds(storm: Storm, adapters: tuple[str, ...]) -> dict[str, Ask]:
    """Return what is asked, by its name; no two requests have the same text or picture."""

    def tokens(chance: random.Random) -> int:
        return chance.randrange(1, storm.output_tokens + 1)

    async def texts(client: httpx.AsyncClient, chance: random.Random) -> Outcome:
        return await ask(client, _text(chance, tokens(chance), stream=chance.random() < 0.5))

    async def pictures(client: httpx.AsyncClient, chance: random.Random) -> Outcome:
        stream, streamed = f"mixed {chance.random()}", chance.randrange(2)
        (body,) = bodies(1, stream=stream, output_tokens=tokens(chance), streamed=streamed)
        return await ask(client, body)

    async def adapted(client: httpx.AsyncClient, chance: random.Random) -> Outcome:
        model = chance.choice(adapters)
        return await ask(client, _text(chance, tokens(chance), stream=False, model=model))

    kinds: dict[str, Ask] = {"texts": texts, "pictures": pictures, "forms": _form, "hung up on": _hung_up_on}
    return kinds | ({"rows of adapters": adapted} if adapters else {})


def _text(chance: random.Random, tokens: int, *, stream: bool, **more: object) -> bytes:
    content = text(chance, chance.randrange(4, 60))
    body = {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "temperature": chance.choice((0.0, 0.8)),
        "stream": stream,
    }
    return json.dumps(body | more).encode()


async def _form(client: httpx.AsyncClient, chance: random.Random) -> Outcome:
    """Ask for an answer of a form; a whole one of another form failed."""
    begin = time.perf_counter()
    form = {"type": "json_schema", "json_schema": {"name": "form", "schema": FORM}}
    reply = await client.post(PATH, content=_text(chance, 60, stream=False, response_format=form))
    said = "" if reply.status_code == 200 else f"{reply.status_code} {reply.text[:160]}"
    if not said:
        (choice,) = reply.json()["choices"]
        answer = choice["message"]["content"]
        if choice["finish_reason"] != "length" and not _has_form(json.loads(answer)):
            said = f"another form: {answer[:160]}"
    return Outcome(end="failed" if said else "ok", seconds=time.perf_counter() - begin, said=said)


def _has_form(found: dict[str, object]) -> bool:
    return list(found) == ["colour", "count"] and found["colour"] in COLOURS and found["count"] in range(100)


async def _hung_up_on(client: httpx.AsyncClient, chance: random.Random) -> Outcome:
    """Read the first bytes of a long stream and no more."""
    begin = time.perf_counter()
    async with client.stream("POST", PATH, content=_text(chance, 400, stream=True, ignore_eos=True)) as reply:
        async for _ in reply.aiter_raw():
            break
    said = "" if reply.status_code == 200 else str(reply.status_code)
    return Outcome(end="failed" if said else "ok", seconds=time.perf_counter() - begin, said=said)


def _adapters(folder: Path) -> dict[str, Path]:
    """Write two adapters for `pocket_vl`; return their folders by name."""
    weights = load_file(POCKET_VL)
    layers = [
        name.removesuffix(".weight")
        for name in weights
        if name.startswith("language_model.model.layers.") and name.removesuffix(".weight").endswith(ADAPTED)
    ]
    return {
        name: write_adapter(folder / name, pairs(weights, layers, seed=seed, size=0.02))
        for seed, name in enumerate(("one", "other"))
    }
