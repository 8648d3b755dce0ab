"""One GPU as the launchers see it: its limits, its current stream, its kernels, compiled on first use.

Memory and streams are torch's; this file adds modules to torch's context and nothing else.
"""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch

from engines.errors import DeviceError, KernelError
from engines.turbomind.cubin_cache import CubinCache, default_cache_dir
from engines.turbomind.cubins import Constants as Constants
from engines.turbomind.cubins import Cubins, Module
from engines.turbomind.launch import Kernel
from engines.turbomind.nvrtc import architecture
from engines.turbomind.tensor_map import TensorView, encode

_KEPT_MAPS = 4096  # two a layer and pool, two a place that torch's allocator gives to activations

SCALARS: Mapping[torch.dtype, str] = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


class Gpu:
    """The device of one rank. Launchers ask it for kernels, scratch memory and the stream."""

    def __init__(
        self, device: torch.device, *, cache_dir: Path | None = None, overlap_launches: bool = True
    ) -> None:
        if device.type != "cuda" or not torch.cuda.is_available():
            raise DeviceError(
                f"engine=turbomind on `{device}`: it needs an NVIDIA GPU; use `engine=pytorch` here"
            )
        self.device = torch.device(
            "cuda", device.index if device.index is not None else torch.cuda.current_device()
        )
        torch.zeros(1, device=self.device)  # makes torch's context, which modules are loaded into
        facts = torch.cuda.get_device_properties(self.device)
        self.arch = architecture(facts.major, facts.minor)
        self.capability = (facts.major, facts.minor)
        # from Hopper on; kernels of older architectures have no instruction to wait with
        self._overlaps = overlap_launches and self.capability >= (9, 0)
        self.num_sms = facts.multi_processor_count
        self.shared_bytes_per_block = self._limit("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
        self.shared_bytes_per_sm = self._limit("MAX_SHARED_MEMORY_PER_MULTIPROCESSOR")
        # The public accessor builds a Stream object, ten times the cost of this one, and every launch asks.
        self._raw_stream = torch._C._cuda_getCurrentRawStream
        self.cubins = Cubins(self.arch, CubinCache(cache_dir or default_cache_dir()))
        self._modules: dict[Module, Any] = {}
        self._kernels: dict[tuple[str, str, Constants, int, bool], Kernel] = {}
        self._scratch: dict[str, torch.Tensor] = {}
        self._maps: dict[TensorView, bytes] = {}
        self.plans: dict[Hashable, Any] = {}  # of `operands.planned`

    def stream(self) -> int:
        """Return torch's current stream on this device as the driver's handle."""
        return self._raw_stream(self.device.index)

    def kernel(
        self,
        file: str,
        entry: str,
        constants: Constants,
        arguments: str,
        *,
        threads: int,
        shared_bytes: int = 0,
        in_order: bool = False,
    ) -> Kernel:
        """Return entry `entry` of `kernels/<file>` with these constants, compiled and loaded at most once.

        One `in_order` never starts before the kernel ahead has ended: for operands that kernels read early,
        since weights do not change, but that have just been written.
        """
        key = (file, entry, constants, threads, in_order)
        kernel = self._kernels.get(key)
        if kernel is None:
            function = self._function(file, entry, constants, shared_bytes)
            kernel = Kernel(
                entry,
                function,
                arguments=arguments,
                threads=threads,
                shared_bytes=shared_bytes,
                overlap=self._overlaps and not in_order,
            )
            self._kernels[key] = kernel
        return kernel

    def scratch(self, name: str, num_bytes: int) -> torch.Tensor:
        """Return zeroed memory that lives as long as this object, one block a name.

        A larger request replaces the block; the old one stays alive, because a captured graph may still hold
        its address.
        """
        block = self._scratch.get(name)
        if block is None or block.numel() < num_bytes:
            if torch.cuda.is_current_stream_capturing():
                raise KernelError(
                    f"scratch `{name}` cannot grow to {num_bytes} bytes in a graph: run the op once before"
                )
            if block is not None:
                self._scratch[f"{name}, {block.numel()} bytes"] = block
            block = torch.zeros(num_bytes, dtype=torch.uint8, device=self.device)
            self._scratch[name] = block
        return block

    def tensor_map(self, view: TensorView) -> bytes:
        """Return the map of a view for a kernel's argument; the last few thousand are kept."""
        found = self._maps.get(view)
        if found is None:
            if len(self._maps) >= _KEPT_MAPS:
                self._maps.clear()
            found = self._maps[view] = encode(view)
        return found

    def _function(self, file: str, entry: str, constants: Constants, shared_bytes: int) -> int:
        module = self._modules.get((file, constants))
        if module is None:
            cubin = self.cubins.get((file, constants))
            with torch.cuda.device(self.device):
                module = _check(_driver().cuModuleLoadData(cubin), f"load `{file}`")
            self._modules[(file, constants)] = module
        driver = _driver()
        function = _check(driver.cuModuleGetFunction(module, entry.encode()), f"find `{entry}` in `{file}`")
        attribute = driver.CUfunction_attribute
        settings = {
            attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: shared_bytes,  # above 48 KB by request
            attribute.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: 100,  # percent; room for all blocks
        }
        for name, value in settings.items() if shared_bytes else ():
            _check(driver.cuFuncSetAttribute(function, name, value), f"give `{entry}` {shared_bytes} bytes")
        return int(function)

    def _limit(self, name: str) -> int:
        driver = _driver()
        attribute = getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        device = _check(driver.cuDeviceGet(self.device.index), "find the GPU")
        return int(_check(driver.cuDeviceGetAttribute(attribute, device), f"read {name}"))


def _driver() -> Any:
    from cuda.bindings import driver

    return driver


def _check(result: tuple[Any, ...], action: str) -> Any:
    status, *values = result
    if status.value != 0:
        raise KernelError(f"the CUDA driver could not {action}: {status.name}")
    return values[0] if values else None
