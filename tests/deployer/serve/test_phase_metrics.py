"""Phases in /metrics: their time, and the percentage of the device's limit over the last seconds."""

from collections.abc import Callable

import httpx
import msgspec
import pytest
from fake_engine import FakeEngine
from plan_cases import case, pricing_of

from deployer.plan.phase_limit import phase_limit_s
from deployer.serve.app import create_app
from deployer.serve.phase_metrics import PhaseMetrics
from deployer.serve.service import Service
from engines.stats import PhaseFigures, Stats

PRICING = pricing_of(case())


def decode(steps: int, *, seconds: float) -> PhaseFigures:
    return PhaseFigures(
        phase="decode",
        seconds=seconds,
        steps=steps,
        rows=steps,
        sampled=steps,
        keys=steps * 100,
        pairs=steps * 100,
    )


def stats(*phases: PhaseFigures) -> Stats:
    known = FakeEngine().stats
    assert known is not None
    return msgspec.structs.replace(known, phases=phases)


def percent(metrics: PhaseMetrics, now: Stats) -> dict[str, float]:
    found = {metric.name: metric for metric in metrics.figures(now)}
    samples = found["deployer_phase_limit_percent"].samples
    return {sample.labels["phase"]: sample.value for sample in samples}


def test_the_percentage_is_of_what_was_added_since_some_seconds() -> None:
    now_s = 0.0
    metrics = PhaseMetrics(clock=lambda: now_s)
    metrics.pricing = PRICING
    at_best = phase_limit_s(PRICING.work, PRICING.limits, decode(10, seconds=0))
    assert percent(metrics, stats(decode(10, seconds=at_best))) == {"decode": pytest.approx(100)}
    now_s = 6.0
    later = stats(decode(20, seconds=5 * at_best))  # 10 more steps, each 4 times its limit
    assert percent(metrics, later) == {"decode": pytest.approx(25)}
    now_s = 12.0
    assert percent(metrics, later) == {}, "a phase that does not run has no percentage"


def test_an_engine_that_was_restarted_counts_anew() -> None:
    metrics = PhaseMetrics()
    metrics.pricing = PRICING
    percent(metrics, stats(decode(1000, seconds=100.0)))
    at_best = phase_limit_s(PRICING.work, PRICING.limits, decode(10, seconds=0))
    assert percent(metrics, stats(decode(10, seconds=2 * at_best))) == {"decode": pytest.approx(50)}


async def test_a_device_that_nobody_describes_has_times_and_no_percentage(
    serve: Callable[..., Service], engine: FakeEngine
) -> None:
    engine.stats = stats(decode(7, seconds=2.0))
    service = serve()
    transport = httpx.ASGITransport(create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        text = (await api.get("/metrics")).text
        assert 'deployer_phase_seconds_total{phase="decode"} 2.0' in text
        assert 'deployer_phase_steps_total{phase="decode"} 7.0' in text
        assert "deployer_phase_limit" not in text
        service.metrics.watch_limits(PRICING)
        assert 'deployer_phase_limit_percent{phase="decode"}' in (await api.get("/metrics")).text


async def test_requests_are_timed_by_stage(api: httpx.AsyncClient) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    for content in ("Hi", [part]):
        body = {"messages": [{"role": "user", "content": content}]}
        assert (await api.post("/v1/chat/completions", json=body)).status_code == 200
    text = (await api.get("/metrics")).text
    counts = {"fetch": 1, "picture_decode": 1, "picture_cut": 1, "queue": 2, "prefill": 2, "decode": 2}
    for stage, count in counts.items():
        assert f'deployer_stage_seconds_count{{stage="{stage}"}} {count}.0' in text
