from pathlib import Path

import pytest
import torch

from engines.errors import CheckpointError
from engines.quant.staging import STATE, Progress, Staging


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
