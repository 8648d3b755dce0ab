import json
from dataclasses import replace

from internvl_golden import ROOT

from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec
from engines.vision.pixels.tile_grid import choose_grid, num_tiles

SPEC = DynamicTilesSpec(
    image=448,
    min_tiles=1,
    max_tiles=12,
    thumbnail=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
TILING = json.loads((ROOT / "tiling.json").read_text())


def test_grids_are_the_references_for_every_recorded_size() -> None:
    wrong = []
    for section in TILING.values():
        for case in section if isinstance(section, list) else ():
            grids = case["grid"]
            choices = grids.items() if isinstance(grids, dict) else [(case["max_num"], grids)]
            for max_num, grid in choices:
                spec = replace(SPEC, min_tiles=case.get("min_num", 1), max_tiles=int(max_num))
                if list(choose_grid(*case["wh"], spec)) != grid:
                    wrong.append((case, max_num))
    assert not wrong


def test_a_thumbnail_comes_with_two_tiles_or_more() -> None:
    assert num_tiles(448, 448, SPEC) == 1
    assert num_tiles(896, 448, SPEC) == 3
    assert num_tiles(896, 448, replace(SPEC, thumbnail=False)) == 2
