"""The driver, the build of torch, the GPUs, the run-time compiler; and whether the engine finds its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

from deployer.config.devices import Machine, choose_engine, probe_machine
from deployer.config.schema import EngineConfig
from deployer.errors import UnavailableError
from deployer.package_version import package_version
from deployer.recipes.findings import Finding

DRIVER = Path("/proc/driver/nvidia/version")
TORCH_INDEX = "https://download.pytorch.org/whl"


def device_findings(
    engine: EngineConfig | None,
    *,
    probe: Callable[[], Machine] = probe_machine,
    driver_file: Path = DRIVER,
) -> Iterator[Finding]:
    """Yield what there is to compute on; an engine that finds no device is an error."""
    driver = driver_version(driver_file)
    yield Finding(level="ok", part="driver", text=driver or "no NVIDIA driver: engines run on the CPU here")
    try:
        machine = probe()
    except UnavailableError as error:
        yield Finding(level="error", part="torch", text=str(error))
        return
    yield _torch(machine, driver)
    yield from (
        Finding(level="ok", part=f"gpu {i}", text=f"{gpu.name}, {gpu.memory_bytes / 2**30:.0f} GiB")
        for i, gpu in enumerate(machine.gpus)
    )
    if engine is None:
        return
    try:
        choice = choose_engine(engine, probe=lambda: machine)
    except UnavailableError as error:
        yield Finding(level="error", part="engine", text=str(error))
    else:
        text = choice.reason or f"engine={choice.kind} on {choice.device}"
        yield Finding(level="ok", part="engine", text=text)
    if engine.kind == "turbomind":
        yield _compiler()


def driver_version(file: Path) -> str | None:
    """Return the version of the kernel's NVIDIA driver, None where there is none."""
    try:
        first = file.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return None
    return first.removeprefix("NVRM version:").strip()


def _torch(machine: Machine, driver: str | None) -> Finding:
    build = f"CUDA {machine.cuda_build}" if machine.cuda_build else "CPU"
    text = f"{machine.torch}, built for {build}"
    if driver is None or machine.gpus:
        return Finding(level="ok", part="torch", text=text)
    if machine.cuda_build is None:
        fix = f"pip install --force-reinstall torch --index-url {TORCH_INDEX}/cu130"
        return Finding(level="warning", part="torch", text=f"{text}, and there is a GPU's driver: {fix}")
    why = "the driver may be older than that, or CUDA_VISIBLE_DEVICES hides the GPUs: see nvidia-smi"
    return Finding(level="warning", part="torch", text=f"{text}, and sees no GPU: {why}")


def _compiler() -> Finding:
    missing = [name for name in ("cuda-bindings", "nvidia-cuda-nvrtc") if package_version(name) is None]
    if missing:
        text = f"{', '.join(missing)} not installed; pip install 'vlm-deployer[cuda]'"
        return Finding(level="error", part="nvrtc", text=text)
    return Finding(
        level="ok",
        part="nvrtc",
        text=f"{package_version('nvidia-cuda-nvrtc')}, compiles kernels at the start",
    )
