"""What compilers made of kernels for earlier runs of the tests, and for the other workers of this one.

A file's name holds a digest of everything that can change its content, so what is there needs no second
look. It is written under a name of its own and renamed: a reader sees all of it or nothing.
"""

import hashlib
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from engines.turbomind.cubin_cache import default_cache_dir
from engines.turbomind.kernel_source import KernelSource
from engines.turbomind.nvrtc import Constants, cache_key, compile_cubin

UNUSED_S = 7 * 86400.0  # after which a file is removed


def builds_folder() -> Path:
    """Return the user's folder of builds, without those that no run has used of late. Raises OSError."""
    folder = default_cache_dir().with_name("test_builds")
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.rglob("*"):
        if path.is_file() and time.time() - path.stat().st_mtime > UNUSED_S:
            path.unlink(missing_ok=True)
    return folder


def digest(*parts: str | bytes) -> str:
    """Return a name for what was made of these parts."""
    whole = hashlib.sha256()
    for part in parts:
        encoded = part.encode() if isinstance(part, str) else part
        whole.update(f"{len(encoded)}:".encode() + encoded)
    return whole.hexdigest()[:32]


def kept(path: Path, make: Callable[[Path], object]) -> Path:
    """Return `path`, which `make` writes (under the name that it is given) unless it is there."""
    if path.exists():
        os.utime(path)
        return path
    own = path.with_name(f"{path.name}.{os.getpid()}")
    make(own)
    own.replace(path)
    return path


def compiler_log(folder: Path, source: KernelSource, *, arch: str, constants: Constants) -> str:
    """Return what NVRTC says when it compiles a kernel. Raises KernelError where it does not compile."""
    release = version("nvidia-cuda-nvrtc")  # the key has no more of it than `13.0`
    name = digest(release, cache_key(source, arch=arch, constants=constants))

    def make(path: Path) -> None:
        log = compile_cubin(source, arch=arch, constants=constants).log
        path.write_text(log, encoding="utf-8")

    return kept(folder / f"{name}.log", make).read_text(encoding="utf-8")
