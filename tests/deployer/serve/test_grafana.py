"""The board in docs/ asks for figures that /metrics has."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import msgspec
from fake_engine import FakeEngine
from plan_cases import case, pricing_of

from deployer.config.schema import QosClass
from deployer.prompt.pixel_pool import PixelPool, PoolFigures
from deployer.serve.app import create_app
from deployer.serve.service import Service
from engines.stats import PhaseFigures

DECODE = PhaseFigures(phase="decode", seconds=1.0, steps=1, rows=1, sampled=1, keys=1, pairs=1)
BOARD = json.loads((Path(__file__).parents[3] / "docs" / "grafana.json").read_text(encoding="utf-8"))


async def test_every_figure_of_the_board_is_there(serve: Callable[..., Service], engine: FakeEngine) -> None:
    engine.stats = msgspec.structs.replace(engine.stats, phases=(DECODE,))
    service = serve(qos=[QosClass(name="all", priority=0, share=1.0, max_requests=None)], qos_default="all")
    service.metrics.watch_limits(pricing_of(case()))
    service.metrics.watch_pool(cast(PixelPool, SimpleNamespace(figures=PoolFigures(num_workers=2))))
    transport = httpx.ASGITransport(create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        text = (await api.get("/metrics")).text
    known = set(re.findall(r"^# TYPE (deployer_\w+)", text, re.MULTILINE))
    queries = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
    asked = {name.removesuffix("_bucket") for query in queries for name in re.findall(r"deployer_\w+", query)}
    assert len(asked) > 15
    assert asked - known == set()


def test_panels_do_not_lie_on_each_other() -> None:
    places = [tuple(panel["gridPos"].values()) for panel in BOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(places)
