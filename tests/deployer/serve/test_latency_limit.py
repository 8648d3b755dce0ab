"""Places that keep a latency: a device whose requests take longer the more of them there are."""

from dataclasses import replace
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, Script
from serving_configs import SERVER

from deployer.serve import latency_limit
from deployer.serve.latency_limit import LatencyLimit

CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


def limit(**changes: Any) -> LatencyLimit:
    made = LatencyLimit.of(replace(SERVER, **{"max_requests": 256, **changes}))
    assert made is not None
    return made


class Device:
    """Answers in rounds all that are in flight; each takes `alone_s` and `each_s` for every other one."""

    def __init__(self, limit: LatencyLimit, monkeypatch: pytest.MonkeyPatch) -> None:
        self.limit, self.now_s = limit, 100.0
        monkeypatch.setattr(latency_limit.time, "perf_counter", lambda: self.now_s)

    def round(self, arriving: int, *, alone_s: float, each_s: float) -> float:
        """Let as many in as may be and return what they took."""
        admitted = min(arriving, self.limit.places)
        if admitted < arriving:
            self.limit.was_full()
        took_s = alone_s + each_s * (admitted - 1)
        entered_s, self.now_s = self.now_s, self.now_s + took_s
        for _ in range(admitted):
            self.limit.ended(entered_s=entered_s, ttft_s=took_s, token_s=None)
        return took_s


def test_the_places_settle_where_the_target_is_met_with_little_to_spare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(limit(target_ttft_ms=1000.0), monkeypatch)
    for _ in range(300):
        device.round(200, alone_s=0.5, each_s=0.02)
    settled = [device.round(200, alone_s=0.5, each_s=0.02) for _ in range(500)]
    assert sum(took <= 1.0 for took in settled) >= 0.95 * len(settled)
    assert 14 <= device.limit.places <= 26  # of the 26 that would just meet it
    for _ in range(300):  # the requests became cheaper
        device.round(200, alone_s=0.5, each_s=0.005)
    assert device.limit.places > 50


def test_a_device_that_is_never_full_gets_no_more_places(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(limit(target_ttft_ms=1000.0), monkeypatch)
    for _ in range(100):
        device.round(2, alone_s=0.1, each_s=0.0)
    assert device.limit.places == SERVER.target_first_places


def test_a_target_out_of_reach_leaves_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(limit(target_ttft_ms=100.0), monkeypatch)
    for _ in range(200):
        device.round(50, alone_s=0.5, each_s=0.1)
    assert device.limit.places == 1


def test_the_time_of_a_further_token_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    both = limit(target_ttft_ms=1000.0, target_token_ms=10.0, max_requests=8)
    for _ in range(SERVER.target_window):
        both.ended(entered_s=1.0, ttft_s=0.1, token_s=None)  # answers of one token
    for _ in range(SERVER.target_window):
        both.ended(entered_s=1e9, ttft_s=0.1, token_s=0.02)
    assert both.places == SERVER.target_first_places * 0.5
    for _ in range(SERVER.target_window):
        both.ended(entered_s=0.0, ttft_s=9.0, token_s=9.0)  # came in before the places changed
    assert both.places == SERVER.target_first_places * 0.5


def test_without_targets_there_is_no_limit() -> None:
    assert LatencyLimit.of(SERVER) is None
    limited = LatencyLimit.of(replace(SERVER, target_token_ms=20.0, max_requests=2))
    assert limited is not None and limited.places == 2


def test_what_a_number_of_places_is_judged_by_follows_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    def settled(**changes: Any) -> int:
        device = Device(limit(target_ttft_ms=1000.0, **changes), monkeypatch)
        for _ in range(400):
            device.round(200, alone_s=0.5, each_s=0.02)
        return device.limit.places

    assert limit(target_ttft_ms=1.0, target_first_places=9).places == 9
    assert settled(target_room=0.6) < settled(target_room=0.95)
    assert settled(target_first_places=64, target_cut=0.4, target_room=0.01) < settled(
        target_first_places=64, target_room=0.01
    )


def test_share_and_window_decide_when_places_are_cut() -> None:
    def places_after(late: int, **changes: Any) -> int:
        judged = limit(**{"target_ttft_ms": 1000.0, "target_window": 10, **changes})
        for number in range(10):
            judged.ended(entered_s=1e9, ttft_s=2.0 if number < late else 0.1, token_s=None)
        return judged.places

    assert places_after(2, target_share=0.8) == SERVER.target_first_places
    assert places_after(2, target_share=0.9) < SERVER.target_first_places
    assert places_after(10, target_window=11) == SERVER.target_first_places


async def test_a_server_that_misses_its_target_refuses_what_it_let_in_before(
    live: Any, engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(text="abcd", pause_s=0.003)
    server = await live(target_ttft_ms=1.0, max_requests=8)
    async with httpx.AsyncClient(base_url=server.url, timeout=10) as client:
        places = server.service.admission.places
        assert places == SERVER.target_first_places
        for _ in range(3 * SERVER.target_window):
            assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        assert server.service.admission.places == 1
        assert "deployer_requests_allowed 1.0" in (await client.get("/metrics")).text
        entered_s = server.service.admission.enter()
        refused = await client.post("/v1/chat/completions", json=CHAT)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "more than 1 would miss `server.target_ttft_ms`" in refused.json()["error"]["message"]
        server.service.admission.in_flight -= 1
        assert entered_s > 0
