"""What keeps an engine from starting on a device whatever the memory: such a deployment has no plan.

`deployer/config/checks.py` refuses what the config tree alone rules out; here the device has a say.
"""

from collections.abc import Iterator

from deployer.config.schema import DeployConfig
from deployer.config.suggest import any_of
from deployer.config.weight_checks import weight_rule
from deployer.plan.case import Case
from deployer.plan.hardware import Hardware, supports
from engines.memory.kv_bytes import dtype_rule, head_dim_rule, kv_formats

OLDEST = [7, 5]  # compute capability that CUDA 13, which compiles our kernels, still has


def start_faults(case: Case, *, kv_key: str = "quantization.kv") -> list[str]:
    """Return why an engine does not start with such a case, a line each; `kv_key` names its KV format."""
    return [*_kv_format(case, kv_key), *_weight_format(case), *_compiler(case)]


def device_faults(config: DeployConfig, hardware: Hardware) -> list[str]:
    """Return why the planned device is none that `engine.device_type` may take, one line at most."""
    asked = config.engine.device_type
    device = "cuda" if hardware.kind == "gpu" else "cpu"
    if asked in ("auto", device):
        return []
    ways = {"cpu": "add hardware=cpu", "cuda": "name the GPU with hardware=<name>"}
    way_out = ways.get(asked, "none of conf/hardware is, so it has no plan")
    return [f"engine.device_type={asked}: {hardware.name}, which is planned, is no such device; {way_out}"]


def _kv_format(case: Case, key: str) -> Iterator[str]:
    form, kind = case.options.kv.format, case.options.kind
    dim, device = case.spec.decoder.head_dim, case.hardware
    way_out = f"use {any_of(kv_formats(dim, case.dtype, kind=kind))}"
    if (rule := head_dim_rule(dim, form, kind=kind)) is not None:
        yield f"{key}={form}: {rule}; {way_out}"
    elif (rule := dtype_rule(case.dtype, form)) is not None:
        other = ", or engine.dtype=bfloat16" if supports(device, "bfloat16") else ""
        yield f"{key}={form} (computed in {case.dtype} on {device.name}): {rule}; {way_out}{other}"


def _weight_format(case: Case) -> Iterator[str]:
    asked = f"quantization.weights={case.weights}"
    if case.weights == "bf12" and case.spec.dtype != "bfloat16":
        held = f"the checkpoint is in {case.spec.dtype}"
        yield f"{asked}: {held}, and 12 bits are made of bfloat16 alone; use quantization=auto"
    elif (rule := weight_rule(case.dtype, case.weights)) is not None:
        fewer = (
            "engine.dtype=bfloat16" if supports(case.hardware, "bfloat16") else "quantization=awq (4 bits)"
        )
        where = f"computed in {case.dtype} on {case.hardware.name}"
        yield f"{asked} ({where}): {rule}; use {fewer} or quantization=auto"


def _compiler(case: Case) -> Iterator[str]:
    capability = case.hardware.capability
    if case.options.kind == "turbomind" and capability is not None and capability < OLDEST:
        found, oldest = (".".join(map(str, pair)) for pair in (capability, OLDEST))
        yield (
            f"engine=turbomind (on {case.hardware.name}, compute capability {found}): CUDA 13, which "
            f"compiles its kernels, begins with {oldest}; use engine=pytorch"
        )
