"""Tiny checkpoints of which the seed is stored: written as upstream publishes them, other folders included.

`drawn.json` has the seed of a checkpoint and by file and tensor the shape and either `fill`, one number, or
`at`: where in the seed's stream of random numbers the draw begins, its `std`, its `mean` where that is not 0,
and `scaled`, rows that were multiplied afterwards. What was not drawn so lies in `kept.safetensors` as
`<file>:<tensor>`; what is no weight lies beside it under its own name.

The draw is that of `torch.Tensor.normal_` on a CPU (pytorch/pytorch: aten/src/ATen/native/cpu/
DistributionTemplates.h, `normal_fill`), whose last bits hang on the vector unit that torch finds. Here they
do not: the functions are numpy's in double precision, within four ulps of the deviation of what upstream had.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

DRAWN = "drawn.json"
KEPT = "kept.safetensors"
PAIRS = 8  # the draw takes 16 uniform numbers at once: eight radii, then eight angles

Numbers = NDArray[np.float64]


def write_drawn(source: Path, folder: Path) -> Path:
    """Write the checkpoint of a fixture into a folder, which must not be there."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(DRAWN, KEPT))
    for file, tensors in drawn_tensors(source).items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(tensors, path) if path.suffix == ".bin" else save_file(tensors, path)
    return folder


def drawn_tensors(source: Path) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of each weight file."""
    recipe = json.loads((source / DRAWN).read_text())
    kept = load_file(source / KEPT) if (source / KEPT).exists() else {}
    rows = [row for file in recipe["files"].values() for row in file.values() if row and "at" in row]
    uniform = uniforms(recipe["seed"], max(row["at"] + _taken(row["shape"]) for row in rows))
    files = {
        file: {
            name: kept[f"{file}:{name}"] if row is None else torch.from_numpy(_tensor(row, uniform))
            for name, row in tensors.items()
        }
        for file, tensors in recipe["files"].items()
    }
    assert checksum(files) == recipe["upper_halves_sha256"], f"{source}: not the numbers that were drawn once"
    return files


def uniforms(seed: int, count: int) -> Numbers:
    """Return the first numbers of a seed's stream, 0 <= x < 1: 24 bits each of a Mersenne twister."""
    words = np.random.RandomState(seed).randint(0, 2**32, size=count, dtype=np.uint32)
    return (words & 0xFFFFFF) / 2**24


def normals(uniform: Numbers, count: int, at: int) -> Numbers:
    """Return a draw of 16 or more normal numbers; where 16 does not divide them the last 16 come anew."""
    whole = count - count % (2 * PAIRS)
    drawn = np.empty(count)
    drawn[:whole] = _box_muller(uniform[at : at + whole])
    if whole < count:
        drawn[count - 2 * PAIRS :] = _box_muller(uniform[at + count : at + count + 2 * PAIRS])
    return drawn


def checksum(files: dict[str, dict[str, Tensor]]) -> str:
    """Return the hash of the upper 16 bits of all numbers, which no difference of an ulp changes."""
    digest = hashlib.sha256()
    for tensors in files.values():
        for tensor in tensors.values():
            digest.update((tensor.float().numpy().view(np.uint32) >> 16).astype("<u2").tobytes())
    return digest.hexdigest()


def _taken(shape: list[int]) -> int:
    count = int(np.prod(shape))
    return count + (2 * PAIRS if count % (2 * PAIRS) else 0)


def _tensor(row: dict[str, Any], uniform: Numbers) -> NDArray[np.float32]:
    shape = row["shape"]
    if "fill" in row:
        return np.full(shape, row["fill"], np.float32)
    drawn = normals(uniform, int(np.prod(shape)), row["at"]).reshape(shape) * row["std"] + row.get("mean", 0)
    if "scaled" in row:
        drawn[row["scaled"]["rows"]] *= row["scaled"]["by"]
    return drawn.astype(np.float32)


def _box_muller(uniform: Numbers) -> Numbers:
    """Return pairs of normal numbers; angles and radii are rounded to float32 as torch's are."""
    sixteens = uniform.reshape(-1, 2, PAIRS)
    radii = np.sqrt(-2 * np.log(1 - sixteens[:, 0]).astype(np.float32)).astype(np.float64)
    angles = (np.float32(2 * np.pi) * sixteens[:, 1].astype(np.float32)).astype(np.float64)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1).ravel()
