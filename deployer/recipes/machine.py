"""What this machine has, held against the hardware that a recipe was made for."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from deployer.bench.machine import machine as bench_machine
from deployer.plan.hardware import Hardware

# Runs apart, so that this process never holds torch.
_PROBE = """
import json, torch
seen = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps([[one.name, one.total_memory] for one in seen]))
"""
_PROBE_TIMEOUT_S = 120.0
MEMORY_SLACK = 0.03  # drivers keep a different part of the memory for themselves


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU that torch sees."""

    name: str
    memory_bytes: int


def visible_gpus() -> list[Gpu]:
    """Return the GPUs that torch sees; none where torch is not installed or does not import."""
    if find_spec("torch") is None:
        return []
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        return []
    return [Gpu(name=name, memory_bytes=size) for name, size in json.loads(done.stdout.splitlines()[-1])]


def machine_fault(
    hardware: Hardware, *, devices: int, probe: Callable[[], list[Gpu]] = visible_gpus
) -> str | None:
    """Return why this machine is not the hardware, or None."""
    if hardware.kind == "cpu":
        return None
    gpus = probe()
    fitting = [gpu for gpu in gpus if is_gpu_of(gpu, hardware)]
    if len(fitting) >= devices:
        return None
    have = ", ".join(sorted({f"{gpu.name} ({gpu.memory_bytes / 2**30:.0f} GiB)" for gpu in gpus}))
    need = f"{devices} x {hardware.name} ({hardware.memory_bytes / 2**30:.0f} GiB)"
    here = f"{len(gpus)} GPU{'' if len(gpus) == 1 else 's'}: {have}" if gpus else "no GPU that torch sees"
    return f"needs {need}; here: {here}"


def machine_name() -> str:
    """Return the processor, its cores, and how busy they are."""
    return f"{bench_machine()['processor']}, load {os.getloadavg()[0]:.1f}"


def tool_commit() -> str:
    """Return this project's version and commit."""
    return bench_machine()["deployer"]


def is_gpu_of(gpu: Gpu, hardware: Hardware) -> bool:
    """Tell whether a GPU is of the kind that `conf/hardware` describes."""
    model = hardware.name.partition("_")[0]  # a100_40g differs from a100 by its memory
    same_name = model in re.sub(r"[^a-z0-9]", "", gpu.name.lower())
    return same_name and gpu.memory_bytes >= hardware.memory_bytes * (1 - MEMORY_SLACK)
