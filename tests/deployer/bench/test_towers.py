"""What the benchmark of the towers measures: released sizes, the loads, and a run on a small tower."""

import pytest
import torch

from deployer.bench.towers import HEADS, MODELS, loads, main, small_decoder, tower_rows
from engines.errors import DeviceError
from engines.weights.parameters import parameters


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_measured_at_its_real_size_but_for_the_decoder(model: str) -> None:
    spec = small_decoder(model)
    assert spec.vision is not None and spec.decoder.num_layers == 1
    tower = [parameter for parameter in parameters(spec) if parameter.name.startswith("vision")]
    assert sum(torch.Size(parameter.shape).numel() for parameter in tower) > 250e6
    small = [load for load in loads(spec.vision) if load.count > 1]
    assert [load.count for load in small] == [4, 8]
    assert all(load.plan.num_tiles <= 5 for load in small)


def test_a_row_names_load_table_and_figures() -> None:
    rows = tower_rows("pocket_vl", "pytorch", device=torch.device("cpu"), dtype=torch.float32)
    assert [row[1] for row in rows] == ["1 x 448x448", "4 x 448x448", "8 x 448x448", "1 x 1344x896"]
    first, *_, photo = (dict(zip(HEADS, row, strict=True)) for row in rows)
    assert (first["model"], first["ops"], first["tiles"]) == ("pocket_vl", "pytorch", "1")
    assert float(first["ms"]) == float(first["ms a tile"]) > 0
    assert int(photo["tiles"]) >= 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU")
def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(DeviceError, match="no CUDA GPU"):
        main(["internvl2_8b"])
