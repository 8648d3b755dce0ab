"""The device that a rank computes on, and the number format there: each says what it lacks."""

import importlib
from collections.abc import Callable, Mapping

import torch

from engines.errors import DeviceError
from engines.memory.host_memory import keep_freed_memory
from engines.options import ComputeDtype

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def compute_dtype(asked: ComputeDtype, checkpoint_dtype: str, device: torch.device) -> torch.dtype:
    """Return the format to compute in; raises DeviceError where the device has no units for it."""
    if asked != "auto":
        name: str = asked
    elif device.type == "cpu":
        name = "float32"
    else:
        name = checkpoint_dtype
    if name == "bfloat16" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        raise DeviceError(
            f"engine.dtype={asked}: bfloat16 needs a GPU of compute capability 8.0, "
            f"{torch.cuda.get_device_name(device)} has "
            f"{'.'.join(map(str, torch.cuda.get_device_capability(device)))}; use engine.dtype=float16"
        )
    return DTYPES[name]


def _cuda(rank: int) -> torch.device:
    if torch.version.cuda is None:
        raise DeviceError(
            f"engine.device_type=cuda: torch {torch.__version__} was built without CUDA; install a CUDA "
            "build of torch or use engine.device_type=cpu"
        )
    if not torch.cuda.is_available():
        raise DeviceError(
            "engine.device_type=cuda: torch finds no CUDA GPU (driver missing, too old, or "
            "CUDA_VISIBLE_DEVICES empty); see `nvidia-smi`, or use engine.device_type=cpu"
        )
    num_gpus = torch.cuda.device_count()
    if rank >= num_gpus:
        raise DeviceError(
            f"engine.tp: rank {rank} needs a GPU of its own, and torch sees {num_gpus}; lower engine.tp, or "
            "see CUDA_VISIBLE_DEVICES"
        )
    # Its default, tf32, rounds factors to 11 bits, whatever dtype was asked for.
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # torch's stubs
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def _cpu(rank: int) -> torch.device:
    keep_freed_memory()
    return torch.device("cpu")


def _npu(rank: int) -> torch.device:
    try:
        importlib.import_module("torch_npu")
    except (ImportError, OSError, RuntimeError) as error:  # it loads vendor libraries while it is imported
        raise DeviceError(
            f"engine.device_type=npu: torch_npu does not import ({error}); install the torch_npu made "
            f"for torch {torch.__version__}, or use engine.device_type=cpu"
        ) from error
    npu = getattr(torch, "npu", None)
    if npu is None or not npu.is_available():
        raise DeviceError("engine.device_type=npu: torch_npu finds no NPU; use engine.device_type=cpu")
    return torch.device("npu", rank)


DEVICES: Mapping[str, Callable[[int], torch.device]] = {"cuda": _cuda, "cpu": _cpu, "npu": _npu}
