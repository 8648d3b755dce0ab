"""The compiler behind the kernels; no GPU is needed."""

import pytest

from engines.errors import KernelError
from engines.turbomind import nvrtc
from engines.turbomind.kernel_source import KernelSource
from engines.turbomind.nvrtc import Usage, architecture, cache_key, compile_cubin, resource_usage

pytest.importorskip("cuda.bindings.nvrtc", reason="the extra `cuda` is not installed")

SOURCE = KernelSource(
    name="twice.cu",
    text='#include "factor.cuh"\nextern "C" __global__ void twice(float* x) { *x *= FACTOR * SCALE; }',
    headers=(("factor.cuh", "#define FACTOR 2.f"),),
)


def test_a_kernel_compiles_with_headers_from_memory() -> None:
    compiled = compile_cubin(SOURCE, arch="sm_90a", constants={"SCALE": 3})
    assert compiled.cubin[:4] == b"\x7fELF"
    usage = resource_usage(compiled.log)["twice"]
    assert (usage.stack_bytes, usage.spill_bytes) == (0, 0)
    assert 0 < usage.registers < 32


def test_a_fault_in_a_kernel_is_shown_with_its_settings() -> None:
    with pytest.raises(KernelError, match=r"`twice.cu` does not compile for sm_80 with SCALE=oops:\n.*oops"):
        compile_cubin(SOURCE, arch="sm_80", constants={"SCALE": "oops"})


def test_an_empty_log_is_not_written_into_a_byte_that_python_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    empty, space = bytes(1), bytes([32])  # the same objects whoever asks: torch.load reads sizes from them
    monkeypatch.setattr(nvrtc, "_FLAGS", ())
    assert compile_cubin(SOURCE, arch="sm_90a", constants={"SCALE": 3}).log == ""
    assert (empty[0], space[0]) == (0, 32)


def test_the_key_changes_with_everything_that_can_change_the_binary() -> None:
    keys = {
        cache_key(SOURCE, arch="sm_80", constants={"SCALE": 1}),
        cache_key(SOURCE, arch="sm_90a", constants={"SCALE": 1}),
        cache_key(SOURCE, arch="sm_80", constants={"SCALE": 2}),
        cache_key(SOURCE, arch="sm_80", constants={"SCALE": 1, "MORE": 1}),
        cache_key(_with(text=SOURCE.text + " "), arch="sm_80", constants={"SCALE": 1}),
        cache_key(
            _with(headers=(("factor.cuh", "#define FACTOR 3.f"),)), arch="sm_80", constants={"SCALE": 1}
        ),
    }
    assert len(keys) == 6
    assert cache_key(SOURCE, arch="sm_80", constants={"A": 1, "B": 2}) == cache_key(
        SOURCE, arch="sm_80", constants={"B": 2, "A": 1}
    )


def _with(*, text: str = SOURCE.text, headers: tuple[tuple[str, str], ...] = SOURCE.headers) -> KernelSource:
    return KernelSource(name=SOURCE.name, text=text, headers=headers)


def test_hopper_gets_its_own_instructions_and_an_old_gpu_is_told_what_runs() -> None:
    assert architecture(9, 0) == "sm_90a"
    assert architecture(8, 6) == "sm_86"
    with pytest.raises(
        KernelError, match=r"GPU of compute capability 3.5: NVRTC .* compiles for 7.5, 8.0, .*pytorch"
    ):
        architecture(3, 5)


def test_spills_are_read_from_the_log() -> None:
    log = (
        "ptxas info    : Compiling entry function 'greedy' for 'sm_90a'\n"
        "    64 bytes stack frame, 128 bytes spill stores, 100 bytes spill loads\n"
        "ptxas info    : Used 255 registers, used 1 barriers, 64 bytes cumulative stack size\n"
    )
    assert resource_usage(log) == {"greedy": Usage(registers=255, stack_bytes=64, spill_bytes=228)}
