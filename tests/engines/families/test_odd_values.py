"""Whatever stands under a key of config.json: a model that can be planned, or a CheckpointError."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from family_golden import FIXTURES

from engines.errors import CheckpointError
from engines.families import read_spec, rules_for
from engines.spec import ModelSpec
from engines.weights.parameters import parameters

FOLDERS = sorted(path.parent for path in FIXTURES.rglob("golden.safetensors"))
ODD = (
    None, True, False, 0, 1, 2, 7, -1, 0.3, 1e30, 1e-320, 2**70, float("nan"), "", "x", [], {}, [1], [[1, 2]],
    ["a"], {"a": 1},
)  # fmt: skip
TRIED = 6  # of these, at each key


def keys(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from keys(value, (*path, key))


def changed(config: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    config = copy.deepcopy(config)
    place = config
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return config


def plan(spec: ModelSpec) -> None:
    """Ask a spec what a planner and a loader ask."""
    rules_for(spec)
    if spec.decoder.num_layers < 100:
        assert parameters(spec)
    if spec.vision is None:
        return
    picture = spec.vision.pixels.plan(300, 200)
    assert spec.vision.num_tokens(picture) > 0
    for tower in spec.vision.towers:
        assert tower.tile_tokens(picture) > 0
        tower.tile_flops(picture), tower.tile_numbers(picture)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_odd_value_is_refused_or_read(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    dice, refused = random.Random(1), 0
    for path in keys(config):
        for value in dice.sample(ODD, TRIED):
            try:
                plan(read_spec(changed(config, path, value), origin="config.json", folder=folder))
            except CheckpointError:
                refused += 1
    assert refused > 30
