"""A checkpoint of each family with a tensor too few, too many, renamed or of another shape: all are named."""

import json
from pathlib import Path

import pytest
import torch
from golden_fixtures import FOLDERS, written
from safetensors.torch import load_file, save_file

from engines.errors import CheckpointError
from engines.families import known_families, read_spec
from engines.pytorch.ops_torch import TorchOps
from engines.spec import ModelSpec
from engines.weights.load import load_network


def spec_of(folder: Path) -> ModelSpec:
    config = json.loads((folder / "config.json").read_text())
    return read_spec(config, origin=str(folder / "config.json"), folder=folder)


# The last fixture of each family; those of one family share their layout.
BY_FAMILY = {spec_of(folder).family: name for name, folder in FOLDERS.items()}


@pytest.mark.parametrize("family", known_families())
def test_tensors_that_are_not_as_they_must_be_are_told_together(family: str, tmp_path: Path) -> None:
    folder = written(BY_FAMILY[family], tmp_path / "m")
    spec = spec_of(folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    gone, renamed, reshaped = [name for name in sorted(tensors) if tensors[name].dim() == 2][:3]
    tensors[f"{renamed}_2"] = tensors.pop(renamed)
    del tensors[gone]
    shape = [side + 1 for side in tensors[reshaped].shape]
    tensors[reshaped] = torch.ones(shape)
    save_file(tensors | {"stray.weight": torch.ones(2)}, file)
    with pytest.raises(CheckpointError) as caught:
        load_network(folder, spec, ops=TorchOps(), device=torch.device("cpu"), dtype=torch.float32)
    message = str(caught.value)
    ends = [
        ".".join(name.split(".")[-2:]) for name in (gone, renamed)
    ]  # what is missing goes by one spelling
    for part in (*ends, f"`{renamed}_2`", "`stray.weight` [2]", f"`{reshaped}`", str(shape)):
        assert part in message, part
