"""Where the weights of a network come from: its checkpoint, or a seed."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from engines.backends import Backend
from engines.errors import DeviceError
from engines.memory.device_memory import free_bytes
from engines.network import Network
from engines.options import LoadFormat
from engines.spec import ModelSpec

LoadNetwork = Callable[[Path, ModelSpec, Backend], Network]


def load_checkpoint(folder: Path, spec: ModelSpec, backend: Backend) -> Network:
    """Load the network from its checkpoint folder; raises CheckpointError."""
    from engines.weights.load import load_network

    return load_network(
        folder,
        spec,
        ops=backend.ops,
        device=backend.device,
        dtype=backend.dtype,
        rank=backend.group.rank,
        tp=backend.group.size,
        copied_layers=backend.copied_layers,
    )


def load_random(folder: Path, spec: ModelSpec, backend: Backend) -> Network:
    """Make the network with seeded weights; the folder need not be there."""
    from engines.weights.load import random_network

    return random_network(
        spec,
        ops=backend.ops,
        device=backend.device,
        dtype=backend.dtype,
        seed=0,
        rank=backend.group.rank,
        tp=backend.group.size,
        copied_layers=backend.copied_layers,
    )


LOADERS: Mapping[LoadFormat, LoadNetwork] = {"checkpoint": load_checkpoint, "random": load_random}


def loaded(load: LoadNetwork, folder: Path, spec: ModelSpec, backend: Backend) -> Network:
    """Return the network that `load` gives; raises DeviceError where its weights do not fit."""
    try:
        return load(folder, spec, backend)
    except torch.OutOfMemoryError as error:
        fewer = "engine.decode_weights=0, " if backend.copied_layers else ""
        raise DeviceError(
            f"the weights of `{folder}` do not fit on {backend.device}, where {free_bytes(backend.device)} "
            f"bytes are left; use a smaller or quantized model, {fewer}or a free device"
        ) from error
