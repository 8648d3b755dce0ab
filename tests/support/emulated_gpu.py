"""A stand-in for `engines.turbomind.gpu.Gpu`: the same `.cu` files, compiled by g++ and run on the CPU.

It checks arithmetic, indexing and synchronisation of a kernel and of its launcher where there is no GPU; see
`cuda_on_cpu/cuda_on_cpu.h` for what it can and cannot show.
"""

import ctypes
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch
from kept_builds import digest, kept

from engines.turbomind.kernel_source import KernelSource, kernel_dir, read_kernel
from engines.turbomind.tensor_map import TensorView

_EMULATOR = Path(__file__).parent / "cuda_on_cpu"
# An access that is not aligned faults, as it does on a GPU.
_TRAPS = ("-fsanitize=alignment", "-fsanitize-undefined-trap-on-error")
# The compiler takes most of these tests' time: a quarter less than with -O1; kernels run a sixth longer.
_SPEED = ("-Og", "-finline-functions-called-once")
# The fortified longjmp takes a jump to another stack for a fault.
_FLAGS = ("-std=c++17", *_SPEED, "-fPIC", "-w", "-U_FORTIFY_SOURCE", *_TRAPS)
_SCHEDULER = "scheduler.so"
_ENTRY = re.compile(
    r'extern "C" __global__ (?:CLUSTER_OF\([^)]*\) )?(?:__launch_bounds__\([^)]*\) )?void (\w+)\('
)


class EmulatedGpu:
    """Compiles into `folder`, which other runs may share; `num_sms` steers how launchers split work."""

    def __init__(self, folder: Path, *, num_sms: int = 3) -> None:
        self.device = torch.device("cpu")
        self.arch = "cpu"
        self.capability = (9, 0)
        self.num_sms = num_sms
        self.shared_bytes_per_block = 227 * 1024
        self.shared_bytes_per_sm = 228 * 1024
        self._folder = folder / f"emulated-{_made_with()}"
        self._folder.mkdir(exist_ok=True)
        self._libraries: dict[tuple[object, ...], ctypes.CDLL] = {}
        self._scratch: dict[str, torch.Tensor] = {}
        self.plans: dict[object, object] = {}

    def stream(self) -> int:
        return 0

    def scratch(self, name: str, num_bytes: int) -> torch.Tensor:
        if name not in self._scratch or self._scratch[name].numel() < num_bytes:
            self._scratch[name] = torch.zeros(num_bytes, dtype=torch.uint8)
        return self._scratch[name]

    def tensor_map(self, view: TensorView) -> bytes:
        """Lay a view out as `cuda_on_cpu/device/hopper.cuh` reads it."""
        missing = 4 - len(view.sizes)
        strides = (*view.strides_bytes, *[0] * missing)
        return struct.pack(
            "=QI4I4I4x3Q40x",
            view.address,
            len(view.sizes),
            *(*view.box, *[1] * missing),
            *(*view.sizes, *[1] * missing),
            *strides,
        )

    def kernel(
        self,
        file: str,
        entry: str,
        constants: tuple[tuple[str, int | str], ...],
        arguments: str,
        *,
        threads: int,
        shared_bytes: int = 0,
        in_order: bool = False,
    ) -> Callable[..., None]:
        assert shared_bytes <= self.shared_bytes_per_block, f"`{entry}` asks for {shared_bytes} bytes"
        library = self._library(file, constants)
        run = getattr(library, f"run_{entry}")

        def launch(stream: int, grid: tuple[int, int], *values: float | bytes) -> None:
            assert len(values) == len(arguments), (
                f"`{entry}` takes {len(arguments)} arguments, got {len(values)}"
            )
            block = ctypes.create_string_buffer(128 * (len(values) + 1))  # a place of 128 bytes for each
            places = [(-(-ctypes.addressof(block) // 128) + i) * 128 for i in range(len(values))]
            for place, kind, value in zip(places, arguments, values, strict=True):
                packed = value if isinstance(value, bytes) else struct.pack("@" + kind, value)
                ctypes.memmove(place, packed, len(packed))
            run(*grid, threads, shared_bytes, (ctypes.c_void_p * len(places))(*places))

        return launch

    def _library(self, file: str, constants: tuple[tuple[str, int | str], ...]) -> ctypes.CDLL:
        key = (file, constants)
        if key not in self._libraries:
            source = read_kernel(file)
            parts = [part for header in source.headers for part in header]
            library = self._folder / f"{digest(file, source.text, repr(constants), *parts)}.so"
            kept(self._folder / _SCHEDULER, self._build_scheduler)
            kept(library, lambda path: self._build(source, constants, path))
            self._libraries[key] = ctypes.CDLL(str(library))
        return self._libraries[key]

    def _build_scheduler(self, path: Path) -> None:
        _compiled("-shared", *self._includes(), str(_EMULATOR / "scheduler.cpp"), into=path)

    def _build(
        self, source: KernelSource, constants: tuple[tuple[str, int | str], ...], library: Path
    ) -> None:
        # By convention of the kernels: blocks of a cluster, or of a grid whose blocks wait for each other.
        settings = dict(constants)
        cluster = settings.get("RESIDENT", settings.get("CLUSTER", 1))
        defines = "".join(f"#define {name} {value}\n" for name, value in constants)
        entries = "".join(
            f'extern "C" void run_{entry}(int x, int y, int threads, int shared, void** args)'
            f" {{ on_cpu::launch({entry}, x, y, {cluster}, threads, shared, args); }}\n"
            for entry in _ENTRY.findall(source.text)
        )
        header = str(_EMULATOR / "cuda_on_cpu.h")
        kept(
            self._folder / "cuda_on_cpu.h.gch", lambda path: _compiled("-x", "c++-header", header, into=path)
        )
        unit = library.with_name(f"{library.name}.cpp")
        unit.write_text(f'#include "cuda_on_cpu.h"\n{defines}{source.text}\n{entries}')
        linked = (f"-L{self._folder}", f"-l:{_SCHEDULER}", "-Wl,-rpath,$ORIGIN")
        _compiled("-shared", *self._includes(), str(unit), *linked, into=library)
        unit.unlink()
        same = read_kernel(source.name) == source and self._folder.name.endswith(_made_with())
        assert same, f"`{source.name}` or the emulator was edited while it was compiled: run again"

    def _includes(self) -> list[str]:
        return [f"-I{folder}" for folder in (self._folder, _EMULATOR, kernel_dir())]


def _made_with() -> str:
    """Return a digest of the emulator, of the compiler and of what it is told."""
    said = subprocess.run([_compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    files = sorted(path for path in _EMULATOR.rglob("*") if path.is_file())
    return digest(said, repr(_FLAGS), *(part for path in files for part in (path.name, path.read_bytes())))


def _compiled(*arguments: str, into: Path) -> None:
    done = subprocess.run([_compiler(), *_FLAGS, *arguments, "-o", str(into)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _compiler() -> str:
    compiler = shutil.which("g++")
    assert compiler, "callers skip where there is no g++"
    return compiler
