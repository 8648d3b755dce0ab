from pathlib import Path

import pytest
import torch

from engines.errors import CheckpointError
from engines.quant.staging import STATE, Progress, Staging, layer_shard


def test_work_goes_on_where_it_stopped_and_not_on_another_job(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "x", job={"format": "awq"})
    assert staging.progress() == Progress(layers=0, notes=[])
    staging.commit(Progress(layers=2, notes=[{}, {}]), {"p0": torch.ones(2)})
    again = Staging(tmp_path / "x", job={"format": "awq"})
    assert again.progress().layers == 2 and torch.equal(again.rows(2)["p0"], torch.ones(2))
    with pytest.raises(CheckpointError, match="holds unfinished work with another format"):
        Staging(tmp_path / "x", job={"format": "gptq"})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"job": 1, "layers": 1, "notes": []}'])
def test_a_damaged_state_is_named(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "x"
    Staging(folder, job={}).commit(Progress(layers=1, notes=[{}]), {"p0": torch.ones(2)})
    (folder / STATE).write_text(text)
    with pytest.raises(CheckpointError, match=r"progress\.json cannot be read .* remove .*x to begin again"):
        Staging(folder, job={})


@pytest.mark.parametrize("name", [layer_shard(0), layer_shard(1), "rows-00002"])
@pytest.mark.parametrize("length", [None, 0, 20])
def test_a_file_that_a_power_cut_took_is_named_before_work_goes_on(
    tmp_path: Path, name: str, length: int | None
) -> None:
    staging = Staging(tmp_path / "x", job={})
    for layer in range(2):
        staging.save_shard(layer_shard(layer), {"w": torch.ones(2)})
    staging.commit(Progress(layers=2, notes=[{}, {}]), {"p0": torch.ones(2)})
    staging.refuse_holes(2)
    file = tmp_path / "x" / f"{name}.safetensors"
    if length is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(
        CheckpointError, match=rf"{name}\.safetensors is not whole .* remove .*x to begin again"
    ):
        staging.refuse_holes(2)
