"""Which engine runs on which device here, and why.

The only part of the front end that asks torch, in a child process, and only where its build may see a device.
`auto` takes the best that is there and says so; anything else is taken at its word or refused.
"""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from deployer.config.schema import EngineConfig
from deployer.errors import UnavailableError
from engines.options import DeviceType

Device = Literal["cuda", "npu", "cpu"]
EngineName = Literal["turbomind", "pytorch"]

# Runs apart so that the server never holds torch's memory. torch_npu adds torch.npu where it imports.
_PROBE = """
import json, torch
npu, npu_error = 0, None
try:
    import torch_npu
    npu = torch.npu.device_count()
except Exception as error:
    npu_error = f"{type(error).__name__}: {error}"
kernels_error = None
try:
    from cuda.bindings import driver, nvrtc
except Exception as error:
    kernels_error = f"{type(error).__name__}: {error}"
gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps({
    "torch": torch.__version__, "cuda_build": torch.version.cuda,
    "gpus": [[gpu.name, gpu.total_memory, [gpu.major, gpu.minor]] for gpu in gpus],
    "kernels_error": kernels_error, "num_npu": npu, "npu_error": npu_error,
}))
"""
_PROBE_TIMEOUT_S = 120.0
PROVEN = (9, 0)  # the compute capability on which engine=turbomind has been run; others are taken by name


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One CUDA GPU that torch sees."""

    name: str
    memory_bytes: int
    capability: tuple[int, int]  # compute capability, major and minor


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What torch sees here."""

    torch: str  # version
    cuda_build: str | None  # CUDA version that torch was built for; None: a CPU build
    gpus: tuple[Gpu, ...]
    kernels_error: str | None  # why what compiles and launches our kernels does not import, where asked
    num_npu: int
    npu_error: str | None  # why torch_npu does not import

    def without_cuda(self) -> str:
        """Return why there is no CUDA device, as a clause."""
        if self.cuda_build is None:
            return f"torch {self.torch} is a CPU build"
        return "no CUDA GPU was found"


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineChoice:
    """A concrete engine and device."""

    kind: EngineName
    device: Device
    reason: str | None  # one line for the user where something was chosen; None where all was given


def find_machine() -> Machine:
    """Return what torch sees here. Raises UnavailableError without torch.

    A CPU build sees no device and says so in a file: the second that torch takes to import is saved.
    """
    spec = find_spec("torch")
    if spec is None or spec.origin is None or find_spec("torch_npu") is not None:
        return probe_machine()
    build = Path(spec.origin).with_name("version.py")
    told = runpy.run_path(str(build)) if build.is_file() else {}
    if not {"__version__", "cuda", "hip"} <= told.keys() or told["cuda"] or told["hip"]:
        return probe_machine()
    return Machine(
        torch=str(told["__version__"]),
        cuda_build=None,
        gpus=(),
        kernels_error=None,
        num_npu=0,
        npu_error="ModuleNotFoundError: No module named 'torch_npu'",
    )


def probe_machine() -> Machine:
    """Ask torch in a child process what devices there are. Raises UnavailableError without torch."""
    if find_spec("torch") is None:
        raise UnavailableError(
            "torch is not installed: every engine needs it; pip install 'vlm-deployer[engine]'"
        )
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UnavailableError(f"torch does not import: {last}; install it again for this Python")
    told = json.loads(done.stdout.splitlines()[-1])
    gpus = tuple(
        Gpu(name=name, memory_bytes=size, capability=(major, minor))
        for name, size, (major, minor) in told.pop("gpus")
    )
    return Machine(gpus=gpus, **told)


def choose_engine(engine: EngineConfig, *, probe: Callable[[], Machine] = find_machine) -> EngineChoice:
    """Return the engine and device of a deployment.

    Raises UnavailableError where the device that was asked for is missing or too few of it are there.
    """
    if (
        engine.kind != "turbomind" and engine.device_type == "cpu"
    ):  # every machine has one: torch need not say
        told = f"engine={engine.kind} -> pytorch on cpu: engine.device_type=cpu"
        return EngineChoice(kind="pytorch", device="cpu", reason=told if engine.kind == "auto" else None)
    machine = probe()
    if engine.kind == "turbomind":
        _require_cuda(machine, engine, "engine=turbomind", "use engine=pytorch here")
        return EngineChoice(kind="turbomind", device="cuda", reason=None)
    if engine.device_type == "cuda":
        _require_cuda(machine, engine, "engine.device_type=cuda", "use engine.device_type=cpu here")
    if engine.device_type == "npu":
        _require_npu(machine, engine)
    device, why = _device(engine.device_type, machine)
    if device != "cpu":
        _require_enough(machine, engine, device)
    kind: EngineName = "pytorch"
    if engine.kind == "auto" and device == "cuda":
        kind, which = _kind_on_cuda(machine, engine.tp)
        why = f"{why}; {which}"
    chosen = engine.kind == "auto" or engine.device_type == "auto"
    reason = f"engine={engine.kind} -> {kind} on {device}: {why}" if chosen else None
    return EngineChoice(kind=kind, device=device, reason=reason)


def _kind_on_cuda(machine: Machine, num_ranks: int) -> tuple[EngineName, str]:
    """Return the engine for the GPUs that the ranks would take, and why."""
    if machine.kernels_error is not None:
        return "pytorch", (
            f"engine=turbomind does not import ({machine.kernels_error}); pip install 'vlm-deployer[cuda]'"
        )
    for gpu in machine.gpus[:num_ranks]:
        if gpu.capability != PROVEN:
            capability = ".".join(map(str, gpu.capability))
            untried = f"engine=turbomind has not been run on compute capability {capability} yet"
            return "pytorch", f"{untried}; take it by name"
    return "turbomind", "our kernels have been run on such GPUs"


def _device(asked: DeviceType, machine: Machine) -> tuple[Device, str]:
    if asked != "auto":
        return asked, f"engine.device_type={asked}"
    if machine.gpus:
        return "cuda", f"torch {machine.torch} sees {_count(len(machine.gpus), 'CUDA GPU')}"
    if machine.num_npu:
        return "npu", f"torch_npu sees {_count(machine.num_npu, 'NPU')}"
    return "cpu", machine.without_cuda()


def _require_cuda(machine: Machine, engine: EngineConfig, asked: str, otherwise: str) -> None:
    if not machine.gpus:
        raise UnavailableError(f"{asked}: it needs an NVIDIA GPU, and {machine.without_cuda()}; {otherwise}")
    _require_enough(machine, engine, "cuda")


def _require_npu(machine: Machine, engine: EngineConfig) -> None:
    if machine.npu_error is not None:
        raise UnavailableError(
            f"engine.device_type=npu: torch_npu does not import ({machine.npu_error}); install the one that "
            f"belongs to torch {machine.torch}, or use engine.device_type=cpu"
        )
    if machine.num_npu == 0:
        raise UnavailableError(
            "engine.device_type=npu: torch_npu sees no NPU; use engine.device_type=cpu here"
        )
    _require_enough(machine, engine, "npu")


def _require_enough(machine: Machine, engine: EngineConfig, device: Device) -> None:
    have = len(machine.gpus) if device == "cuda" else machine.num_npu
    if engine.tp > have:
        name = "CUDA GPU" if device == "cuda" else "NPU"
        raise UnavailableError(
            f"engine.tp={engine.tp}: splits the model over {engine.tp} devices, and {_count(have, name)} "
            f"{'is' if have == 1 else 'are'} here; lower engine.tp"
        )


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"
