"""What this machine has, held against the hardware that a recipe was made for."""

import os
from collections.abc import Callable, Sequence

from deployer.bench.machine import machine as bench_machine
from deployer.config.devices import Gpu, find_machine
from deployer.errors import UnavailableError
from deployer.plan.hardware import Hardware, is_named

MEMORY_SLACK = 0.03  # drivers keep a different part of the memory for themselves


def machine_fault(
    hardware: Hardware, *, devices: int, probe: Callable[[], Sequence[Gpu]] | None = None
) -> str | None:
    """Return why this machine is not the hardware, or None."""
    if hardware.kind == "cpu":
        return None
    gpus = (probe or _visible_gpus)()
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
    return is_named(hardware, gpu.name) and gpu.memory_bytes >= hardware.memory_bytes * (1 - MEMORY_SLACK)


def _visible_gpus() -> Sequence[Gpu]:
    try:
        return find_machine().gpus
    except UnavailableError:  # without torch there is no GPU to use either
        return ()
