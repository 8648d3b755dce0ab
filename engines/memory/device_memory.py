"""What a device is, how much memory it has left, and what this process has taken of it."""

import gc
import resource
from pathlib import Path

import torch

from engines.memory.kv_bytes import SHARE_OF_HOST_MEMORY


def free_bytes(device: torch.device) -> int:
    """Return the bytes that this process may still take; on a CPU, half of what is available."""
    if device.type == "cpu":
        return int(SHARE_OF_HOST_MEMORY * available_host_bytes())
    module = torch.get_device_module(device)
    module.empty_cache()
    free, _ = module.mem_get_info(device)
    return int(free)


def available_host_bytes() -> int:
    """Return the bytes of the host's memory that are available, within the limits of a container."""
    return min(_available_in_host(), _available_cgroup_bytes())


def gpu_bytes(device: torch.device) -> int:
    """Return the memory of an NVIDIA GPU as its driver shows it; 0 for any other device."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def capability(device: torch.device) -> tuple[int, int] | None:
    """Return the compute capability of an NVIDIA GPU; None for any other device."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def used_bytes(device: torch.device) -> int:
    """Return the bytes that tensors of this process take.

    On a CPU those of all tensors that Python knows: what the process holds beside them, packing weights
    leaves in its heap.
    """
    if device.type == "cpu":
        return _tensor_bytes()
    return int(torch.get_device_module(device).memory_allocated(device))


def peak_bytes(device: torch.device) -> int:
    """Return the most that tensors of this process took at once; on a CPU, the most memory that it held."""
    if device.type == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(torch.get_device_module(device).max_memory_allocated(device))


def _tensor_bytes() -> int:
    """Return the bytes of the host's memory that tensors lie in, each piece once."""
    # By type, since `isinstance` asks an object for its class, which a lazy module answers by an import.
    tensors = [one for one in gc.get_objects() if type(one) is torch.Tensor]
    pieces = [one.untyped_storage() for one in tensors if one.device.type == "cpu"]
    return sum({piece.data_ptr(): piece.nbytes() for piece in pieces}.values())


def _available_in_host() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    raise RuntimeError("/proc/meminfo has no MemAvailable: Linux 3.14 or later is needed")


def _available_cgroup_bytes(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """Return what the limits of a container or a unit leave, or a very large number where there are none."""
    return min((_left_in(folder) for folder in _own_cgroups(root, membership)), default=1 << 62)


def _own_cgroups(root: Path, membership: Path) -> list[Path]:
    """Return the folders of our cgroup and of all above it; a container sees its own as the root."""
    lines = membership.read_text().splitlines() if membership.exists() else []
    names = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    own = root / names[0] if names else root
    return [folder for folder in (own, *own.parents) if folder.is_relative_to(root)]


def _left_in(cgroup: Path) -> int:
    """Return what a limit leaves; files that were read once and that the kernel drops first are not taken."""
    limit, usage = cgroup / "memory.max", cgroup / "memory.current"
    if not limit.exists() or not usage.exists() or limit.read_text().strip() == "max":
        return 1 << 62
    used = int(usage.read_text()) - _droppable_bytes(cgroup / "memory.stat")
    return max(int(limit.read_text()) - max(used, 0), 0)


def _droppable_bytes(statistics: Path) -> int:
    lines = statistics.read_text().splitlines() if statistics.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
