"""Classes of service at the door: places that are kept, 429 by class, what engine and metrics are told."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import pytest
from fake_engine import FakeEngine
from serving_configs import SERVER

from deployer.config.schema import QosClass
from deployer.errors import UnavailableError
from deployer.serve.app import create_app
from deployer.serve.class_places import ClassPlaces
from deployer.serve.key_file import all_keys
from deployer.serve.service import Service

CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
GOLD = QosClass(name="gold", priority=0, share=0.5, max_requests=None)
BULK = QosClass(name="bulk", priority=3, share=0.25, max_requests=3)


@pytest.fixture
def keys(tmp_path: Path) -> str:
    file = tmp_path / "keys"
    file.write_text("g gold\nb   bulk  # nightly\nplain\n")
    return str(file)


def test_a_class_leaves_the_places_that_others_are_owed_and_lends_no_place_twice() -> None:
    free = replace(BULK, max_requests=None)
    places = ClassPlaces((GOLD, free), default="bulk", max_requests=8)
    held: Counter[str] = Counter()
    for _ in range(4):  # 2 are its own, 2 are nobody's
        assert places.refusal("bulk", held) is None
        held["bulk"] += 1
    told = places.refusal("bulk", held)
    assert told == (
        "4 requests of class `bulk` are in flight, and server.qos keeps the 4 places that are left for "
        "other classes"
    )
    for _ in range(4):
        assert places.refusal("gold", held) is None
        held["gold"] += 1
    assert held.total() == 8


async def test_a_flood_of_one_class_is_answered_429_while_another_gets_in(
    serve: Callable[..., Service], engine: FakeEngine, keys: str
) -> None:
    engine.gate = asyncio.Event()
    service = serve(qos=[GOLD, BULK], qos_default="bulk", api_keys_file=keys, api_keys=["configured"])
    transport = httpx.ASGITransport(create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=10) as api:

        def ask(key: str) -> asyncio.Task[httpx.Response]:
            headers = {"authorization": f"Bearer {key}"}
            return asyncio.create_task(api.post("/v1/chat/completions", json=CHAT, headers=headers))

        crowd = [ask(key) for key in ("b", "plain", "configured", "b", "b")]
        while sum(one.done() for one in crowd) < 2:
            await asyncio.sleep(0.005)
        refused = next(one.result() for one in crowd if one.done())
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert refused.json()["error"]["message"].startswith(
            "3 requests of class `bulk` are in flight, server.qos allows it 3: come back"
        )
        assert int(refused.headers["retry-after"]) >= 1
        gold = [ask("g") for _ in range(5)]
        while len(engine.submits) < 8:
            await asyncio.sleep(0.005)
        figures = (await api.get("/metrics")).text
        assert 'deployer_class_requests_in_flight{class="gold"} 5.0' in figures
        assert 'deployer_class_requests_in_flight{class="bulk"} 3.0' in figures
        engine.gate.set()
        assert [(await one).status_code for one in gold] == [200] * 5
        assert sorted([(await one).status_code for one in crowd]) == [200, 200, 200, 429, 429]
        figures = (await api.get("/metrics")).text
    assert {(one.service_class, one.priority) for one in engine.submits} == {(0, 0), (1, 3)}
    assert 'deployer_class_requests_total{class="bulk",code="429"} 2.0' in figures
    assert 'deployer_class_output_tokens_total{class="gold"} 15.0' in figures
    assert 'deployer_class_queue_seconds_count{class="bulk"} 3.0' in figures
    assert not service.admission.held.total and not any(service.admission.held.by_class.values())


async def test_the_engines_queue_is_told_by_class(serve: Callable[..., Service], engine: FakeEngine) -> None:
    engine.stats = msgspec.structs.replace(engine.stats, running_by_class=(2, 1), waiting_by_class=(0, 7))
    transport = httpx.ASGITransport(create_app(serve(qos=[GOLD, BULK], qos_default="bulk")))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        figures = (await api.get("/metrics")).text
    assert 'deployer_class_sequences_running{class="gold"} 2.0' in figures
    assert 'deployer_class_sequences_waiting{class="bulk"} 7.0' in figures


async def test_without_classes_nothing_is_told_of_them(api: httpx.AsyncClient, engine: FakeEngine) -> None:
    assert (await api.post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert "deployer_class_" not in (await api.get("/metrics")).text
    assert engine.submits[0].service_class == 0


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ((GOLD,), "a key is of class `bulk`: server.qos has `gold`; name the class there, or drop it"),
        ((), "a key is of class `gold`: server.qos is empty; name the class there, or drop it"),
    ],
)
def test_a_key_of_an_unknown_class_is_told(keys: str, classes: tuple[QosClass, ...], told: str) -> None:
    with pytest.raises(UnavailableError, match=told):
        all_keys(replace(SERVER, api_keys_file=keys, qos=list(classes), qos_default="gold"))
