"""A checkpoint folder: which tensors it holds, and reading stretches of them.

safetensors are read through the safetensors library, `.bin` shards through `torch.load(weights_only=True)`
alone: no code of a checkpoint is ever run. Safe to read from several threads.
"""

import json
import threading
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engines.errors import CheckpointError
from engines.spec import Companion
from engines.weights.companion_folder import companion_folder

SAFETENSORS = "model.safetensors"
BIN = "pytorch_model.bin"

Shapes = Mapping[str, tuple[int, ...]]


class Shard(Protocol):
    """One file of tensors."""

    shapes: Shapes

    def read(self, name: str, *, axis: int, start: int, length: int) -> Tensor:
        """Return a stretch of a tensor along axis 0 or 1, on the CPU, in the checkpoint's dtype.

        Of a single number, which has no axis, the number.
        """
        ...


class Checkpoint:
    """The tensors of a folder, and of those that it leaves weights to, by name."""

    def __init__(self, folder: Path, companions: Sequence[Companion] = ()) -> None:
        """Open every shard; raises CheckpointError for a missing, truncated or contradictory file."""
        self.folder = folder
        self._places: dict[str, tuple[Shard, str]] = {}  # shard, name in it
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._add(_shard_paths(folder))
        for companion in companions:
            if not any(name.startswith(companion.prefix) for name in self.shapes):
                self._add(_companion_paths(folder, companion), prefix=companion.prefix)

    def read(self, name: str, *, axis: int, start: int, length: int) -> Tensor:
        """Return a stretch of a tensor along axis 0 or 1, on the CPU, in the checkpoint's dtype."""
        shard, own_name = self._places[name]
        return shard.read(own_name, axis=axis, start=start, length=length)

    def _add(self, paths: Iterable[Path], *, prefix: str = "") -> None:
        for path in paths:
            shard = _open(path)
            for own_name, shape in shard.shapes.items():
                name = prefix + own_name
                if name in self.shapes:
                    raise CheckpointError(
                        f"tensor `{own_name}` ({path}): is in another shard too; each must be in one"
                    )
                self.shapes[name] = shape
                self._places[name] = (shard, own_name)


class SafetensorsShard:
    """One .safetensors file; every thread reads through a handle of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        handle = self._handle()
        self.shapes: Shapes = {
            name: tuple(handle.get_slice(name).get_shape())
            for name in handle.keys()  # noqa: SIM118 - the handle is no dict
        }

    def read(self, name: str, *, axis: int, start: int, length: int) -> Tensor:
        """Return a stretch of a tensor."""
        if not self.shapes[name]:
            number: Tensor = self._handle().get_tensor(name)
            return number
        part = self._handle().get_slice(name)
        stretch: Tensor = part[start : start + length] if axis == 0 else part[:, start : start + length]
        return stretch

    def _handle(self) -> Any:
        if not hasattr(self._local, "handle"):
            try:  # the library says of a file that it may not read that it is not there
                self._path.open("rb").close()
            except OSError as error:
                raise CheckpointError(
                    f"{self._path} cannot be read: {error.strerror}; let this user read it"
                ) from error
            try:
                self._local.handle = safe_open(self._path, framework="pt", device="cpu")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"cannot read {self._path} ({error}): must be a whole safetensors file; fetch it again"
                ) from error
        return self._local.handle


class BinShard:
    """One .bin file as torch.save writes it, mapped into memory rather than read."""

    def __init__(self, path: Path) -> None:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except Exception as error:  # damaged pickles raise almost anything
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"cannot read {path} ({reason}): must be a whole file of tensors alone; fetch it again"
            ) from error
        if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
            raise CheckpointError(f"cannot read {path}: must hold a dict of tensors and nothing else")
        self._tensors: dict[str, Tensor] = found
        self.shapes: Shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}

    def read(self, name: str, *, axis: int, start: int, length: int) -> Tensor:
        """Return a stretch of a tensor."""
        tensor = self._tensors[name]
        return tensor.narrow(axis, start, length) if tensor.dim() else tensor


def _open(path: Path) -> Shard:
    return BinShard(path) if path.suffix == ".bin" else SafetensorsShard(path)


def _shard_paths(folder: Path) -> list[Path]:
    """Return the weight files of a folder, sorted; an index file decides where there is one."""
    if not folder.is_dir():
        raise CheckpointError(f"checkpoint folder {folder}: must be a folder with config.json and weights")
    for name in (SAFETENSORS, BIN):
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _indexed_paths(index)
        if (folder / name).is_file():
            return [folder / name]
    held = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    raise CheckpointError(
        f"no weights in {folder}, which holds {held}: must hold {SAFETENSORS} or {BIN}, or an index of shards"
    )


def _companion_paths(folder: Path, companion: Companion) -> list[Path]:
    found = companion_folder(folder, companion.folder)
    if found is None:
        raise CheckpointError(
            f"no folder `{companion.folder}` in or beside {folder}: its config.json leaves the weights of "
            f"`{companion.prefix}*` to it; fetch that repository into it"
        )
    if companion.file is None:
        return _shard_paths(found)
    if not (found / companion.file).is_file():
        raise CheckpointError(f"no `{companion.file}` in {found}: must hold these weights; fetch it again")
    return [found / companion.file]


def _indexed_paths(index: Path) -> list[Path]:
    try:
        weight_map = json.loads(index.read_text())["weight_map"]
        names = sorted(set(weight_map.values()))
        paths = [index.parent / name for name in names]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"cannot read {index} ({error}): must map tensor names to shards") from error
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise CheckpointError(f"{index} names {', '.join(outside)}: shards must lie beside it")
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise CheckpointError(
            f"{len(missing)} of {len(paths)} shards named by {index} are missing: {', '.join(missing)}; "
            "fetch them again"
        )
    return paths
