"""Loads of random ids over HTTP, from the command line, around the fake engine."""

import asyncio
import json
from typing import Any

import httpx
import msgspec
import pytest
from fake_engine import FakeEngine, Script

from deployer.bench.scrape import spent_at_rest
from deployer.bench.token_server import engine_behind
from deployer.cli import main
from deployer.errors import UnavailableError

LOAD = (
    "+model=internvl2_8b", "engine.load_format=random", "bench=decode", "bench.prompt_tokens=5",
    "bench.output_tokens=7", "bench.concurrency=[1,3]", "bench.requests=6", "bench.clients=2", "output=json",
)  # fmt: skip


def at_rest(engine: FakeEngine) -> None:
    assert engine.stats is not None
    engine.stats = msgspec.structs.replace(engine.stats, num_running=0, num_waiting=0)


async def test_a_load_of_ids_is_asked_of_a_running_server(
    live: Any, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    at_rest(engine)
    engine.script = lambda _: Script(text="x" * 50, pause_s=0.002)
    url = (await live()).url
    assert await asyncio.to_thread(main, ["bench", *LOAD, f"bench.url={url}"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["about"]["server"] == url
    assert report["engine"] is None
    assert [(row["path"], row["concurrency"], row["requests"]) for row in report["rows"]] == [
        ("http", 1, 6),
        ("http", 3, 6),
    ]
    for row in report["rows"]:
        assert (row["prompt_tokens"], row["output_tokens"], row["steps"]) == (5, 7, 0)
        assert row["token_p50_ms"] >= 2
        assert row["server_cores"] > 0
        assert row["client_cores"] > 0
    # the warm-up's two, then the rows'; no two alike
    prompts = [submit.token_ids for submit in engine.submits]
    assert len(set(prompts)) == len(prompts) == 2 + 6 + 6
    assert all(len(prompt) == 5 for prompt in prompts)


async def test_what_a_server_spent_is_read_once_it_is_at_rest(live: Any, engine: FakeEngine) -> None:
    async with httpx.AsyncClient(base_url=(await live()).url) as client:
        reading = asyncio.create_task(spent_at_rest(client))
        await asyncio.sleep(0.2)
        assert not reading.done(), "3 sequences run and 2 wait"
        at_rest(engine)
        spent = await reading
    assert spent is not None
    assert (spent.steps, spent.step_s, spent.wait_s, spent.gap_s) == (7, 0.5, 0.25, 0.125)
    assert spent.server_cpu_s is not None and spent.server_cpu_s > 0


async def test_a_server_that_does_not_rest_is_told(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployer.bench.scrape.SETTLE_S", 0.1)
    async with httpx.AsyncClient(base_url=(await live()).url) as client:
        with pytest.raises(UnavailableError, match="measure a server that nobody else asks"):
            await spent_at_rest(client)


async def test_another_kind_of_server_says_nothing_of_what_it_spent() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(404))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        assert await spent_at_rest(client) is None


async def test_what_the_engine_behind_a_server_got_is_asked_of_the_server() -> None:
    told = {"engine": {"kind": "pytorch", **msgspec.to_builtins(FakeEngine().ready)}}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=told))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        assert await engine_behind(client) == FakeEngine().ready
    transport = httpx.MockTransport(lambda _: httpx.Response(404))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        with pytest.raises(UnavailableError, match=r"http://x/v1/deployment: .*404"):
            await engine_behind(client)


async def test_ids_that_the_network_has_and_the_vocabulary_has_not_are_not_asked(
    live: Any, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    at_rest(engine)
    url = (await live()).url
    words = ("+model=pocket_vl", "bench=prefill", "bench.concurrency=[1]", "bench.prompt_tokens=3000")
    assert await asyncio.to_thread(main, ["bench", *words, "bench.warmup=0", f"bench.url={url}"]) == 0
    (submit,) = engine.submits
    assert 1000 < max(submit.token_ids) < 1246, "the network has 1,280 rows, the tokenizer 1,246 ids"
