"""The board in docs/ asks for figures that /metrics has."""

import json
import re
from pathlib import Path

import httpx

BOARD = json.loads((Path(__file__).parents[3] / "docs" / "grafana.json").read_text(encoding="utf-8"))


async def test_every_figure_of_the_board_is_there(api: httpx.AsyncClient) -> None:
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
