"""Tiny checkpoints packed into one file: unpacked as upstream publishes them, other folders included.

`packed.npz` holds one array a tensor, named `<file>:<tensor>`: uint8 [3, ...], the upper three bytes of its
float32 numbers, highest first, which packs well; the lowest is 0. What is not a weight lies beside
it under its own name.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

PACKED = "packed.npz"


def unpack(source: Path, folder: Path) -> Path:
    """Write the checkpoint of a fixture into a folder, which must not be there."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(PACKED))
    for file, tensors in packed_tensors(source).items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(tensors, path) if path.suffix == ".bin" else save_file(tensors, path)
    return folder


def packed_tensors(source: Path) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of each weight file."""
    files: dict[str, dict[str, Tensor]] = {}
    with np.load(source / PACKED) as packed:
        for key in packed.files:
            file, _, name = key.partition(":")
            planes = packed[key].astype("<u4")
            numbers = (planes[0] << 24 | planes[1] << 16 | planes[2] << 8).view("<f4")
            files.setdefault(file, {})[name] = torch.from_numpy(numbers)
    return files
