"""The cubins of one architecture: from disk, or compiled and kept. Torch-free.

Not the loader (`gpu.py`), and not what decides which are wanted (`compile_ahead.py`).
"""

import logging
import time
from pathlib import Path

from engines.turbomind.cubin_cache import CubinCache
from engines.turbomind.kernel_source import KernelSource, read_kernel
from engines.turbomind.nvrtc import cache_key, compile_cubin

Constants = tuple[
    tuple[str, int | str], ...
]  # -D name and value, in a fixed order so that it can be a dictionary key
Module = tuple[str, Constants]  # a file of `kernels/` and what it is compiled with

_log = logging.getLogger(__name__)


class Cubins:
    """What modules are as binaries; counts those that it had to compile."""

    def __init__(self, arch: str, cache: CubinCache) -> None:
        self.arch = arch
        self.cache = cache
        self.compiled = 0
        self.compile_seconds = 0.0
        self._sources: dict[str, KernelSource] = {}
        self._made: dict[Module, bytes] = {}  # here; the folder may keep nothing

    def get(self, module: Module) -> bytes:
        """Return a module's cubin. Raises KernelError where it does not compile."""
        file, constants = module
        stem, settings = Path(file).stem, dict(constants)
        key = self.key(module)
        cubin = self._made.get(module) or self.cache.load(stem, key)
        if cubin is not None:
            return cubin
        started = time.perf_counter()
        cubin = compile_cubin(self._source(file), arch=self.arch, constants=settings).cubin
        seconds = time.perf_counter() - started
        self.compiled += 1
        self.compile_seconds += seconds
        self._made[module] = cubin
        words = " ".join(f"{name}={value}" for name, value in constants)
        _log.info("kernel %s compiled in %.2f s when it was first asked for, with %s", file, seconds, words)
        self.cache.store(stem, key, cubin)
        return cubin

    def has(self, module: Module) -> bool:
        """Whether a module's cubin is on disk."""
        return self.cache.has(Path(module[0]).stem, self.key(module))

    def key(self, module: Module) -> str:
        """Return the digest of everything that can change a module's binary."""
        file, constants = module
        return cache_key(self._source(file), arch=self.arch, constants=dict(constants))

    def _source(self, file: str) -> KernelSource:
        source = self._sources.get(file)
        if source is None:
            source = self._sources[file] = read_kernel(file)
        return source
