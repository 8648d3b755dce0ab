"""From CUDA C++ to a cubin with NVRTC, on any machine: no GPU, no toolkit, no host compiler.

Not the disk cache (`cubin_cache.py`) and not the loader (`gpu.py`). Called by `gpu.py` and by the compile
tests.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from engines.errors import KernelError
from engines.turbomind.kernel_source import KernelSource

Constants = Mapping[str, int | str]

# Line information costs nothing at run time and lets profilers name source lines. `-v` fills the log that
# `resource_usage` reads.
_FLAGS = ("--std=c++17", "--generate-line-info", "--ptxas-options=-v", "--device-as-default-execution-space")

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What the assembler says about one entry."""

    registers: int
    stack_bytes: int
    spill_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """A cubin and the log of the compiler that made it."""

    cubin: bytes
    log: str


def architecture(major: int, minor: int) -> str:
    """Return the target name for a compute capability; Hopper takes its own instructions along.

    Raises KernelError for a GPU that this NVRTC compiles nothing for.
    """
    supported = sorted(_check(_nvrtc().nvrtcGetSupportedArchs(), "list the architectures"))
    if 10 * major + minor not in supported:
        raise KernelError(
            f"GPU of compute capability {major}.{minor}: NVRTC {nvrtc_version()} compiles for "
            f"{', '.join(f'{a // 10}.{a % 10}' for a in supported)}; use one of those or `engine=pytorch`"
        )
    return "sm_90a" if (major, minor) == (9, 0) else f"sm_{major}{minor}"


def nvrtc_version() -> str:
    """Return the version of the NVRTC library that is in use, such as `13.0`."""
    major, minor = _check(_nvrtc().nvrtcVersion(), "read its version")
    return f"{int(major)}.{int(minor)}"


def cache_key(source: KernelSource, *, arch: str, constants: Constants) -> str:
    """Return a digest of everything that can change the binary."""
    digest = hashlib.sha256()
    for part in (
        f"nvrtc {nvrtc_version()}",
        *_options(arch, constants),
        source.name,
        source.text,
        *(text for header in source.headers for text in header),
    ):
        encoded = part.encode()
        digest.update(f"{len(encoded)}:".encode())
        digest.update(encoded)
    return digest.hexdigest()


def compile_cubin(source: KernelSource, *, arch: str, constants: Constants) -> Compiled:
    """Compile one kernel file for one architecture. Raises KernelError with the compiler's log."""
    nvrtc = _nvrtc()
    names = [name.encode() for name, _ in source.headers]
    texts = [text.encode() for _, text in source.headers]
    program = _check(
        nvrtc.nvrtcCreateProgram(source.text.encode(), source.name.encode(), len(names), texts, names),
        "start",
    )
    try:
        options = [option.encode() for option in _options(arch, constants)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        log = _text(nvrtc, program)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            settings = " ".join(f"{name}={value}" for name, value in sorted(constants.items()))
            raise KernelError(f"kernel `{source.name}` does not compile for {arch} with {settings}:\n{log}")
        size = _check(nvrtc.nvrtcGetCUBINSize(program), "size the binary")
        cubin = _writable(size)
        _check(nvrtc.nvrtcGetCUBIN(program, cubin), "hand over the binary")
        return Compiled(cubin=cubin[:size], log=log)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def resource_usage(log: str) -> dict[str, Usage]:
    """Return the registers, stack and spills of each entry named in a compiler log."""
    usage = {}
    for section in log.split("ptxas info    : Compiling")[1:]:
        entry = _ENTRY.search("Compiling" + section)
        spills, registers = _SPILLS.search(section), _REGISTERS.search(section)
        if entry and spills and registers:
            stack, stores, loads = (int(number) for number in spills.groups())
            usage[entry[1]] = Usage(
                registers=int(registers[1]), stack_bytes=stack, spill_bytes=stores + loads
            )
    return usage


def _options(arch: str, constants: Constants) -> list[str]:
    return [
        f"--gpu-architecture={arch}",
        *_FLAGS,
        *(f"-D{name}={value}" for name, value in sorted(constants.items())),
    ]


def _text(nvrtc: ModuleType, program: object) -> str:
    log = _writable(_check(nvrtc.nvrtcGetProgramLogSize(program), "size its log"))
    _check(nvrtc.nvrtcGetProgramLog(program, log), "hand over its log")
    return log.rstrip(b"\0 \n").decode(errors="replace")


def _writable(size: int) -> bytes:
    """Return bytes that the bindings may write into, one more than `size`.

    Bytes of one all of Python shares, and an empty log is one byte, its end: written there, it made every
    `b" "` of the process another byte, and 32 in a file that `torch.load` reads became 0.
    """
    return bytes(size + 1)


def _check(result: tuple[Any, ...], action: str) -> Any:
    """Unpack what a binding returns: (status,), (status, value) or (status, value, value)."""
    status, *values = result
    if status.value != 0:
        raise KernelError(f"NVRTC could not {action}: {status.name}")
    return values[0] if len(values) == 1 else values


def _nvrtc() -> ModuleType:
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise KernelError(
            f"engine=turbomind compiles its kernels with NVRTC, and {error.name} is missing: "
            "install the extra `cuda` of this package"
        ) from error
    return nvrtc  # type: ignore[no-any-return]  # the bindings carry no types
