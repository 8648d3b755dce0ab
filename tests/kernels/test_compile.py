"""Every kernel compiles for every supported architecture without spilling a register. Needs no GPU."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from attention_constants import (
    attention_decode,
    attention_full,
    attention_full_hopper,
    attention_prefill,
    attention_prefill_hopper,
)
from gpu_limits import ARCHITECTURES, matrix_scalar
from kept_builds import compiler_log
from linear_constants import (
    linear_bf12,
    linear_chain_int4,
    linear_chain_int4_hopper,
    linear_columns,
    linear_even,
    linear_fp7,
    linear_hopper,
    linear_int4_hopper,
    linear_rows,
    linear_skinny,
    linear_skinny_bf12,
    linear_skinny_int4,
    linear_tiles,
)

from engines.errors import KernelError
from engines.steps.decode_rows import PAGES
from engines.turbomind.kernel_source import KernelSource, kernel_dir, read_kernel
from engines.turbomind.nvrtc import compile_cubin, resource_usage
from engines.turbomind.ops.norm import num_threads
from engines.turbomind.ops.quantize_rows import row_threads
from engines.turbomind.rank_boxes import SLOT_BYTES, most_blocks, most_rows

pytest.importorskip("cuda.bindings.nvrtc", reason="the extra `cuda` is not installed")


def norm(arch: str) -> list[dict[str, int | str]]:
    return [
        {"SCALAR": scalar, "HIDDEN": hidden, "THREADS": num_threads(hidden, 4 if scalar == "fp32" else 2)}
        for scalar, hidden in (("bf16", 4096), ("fp16", 3200), ("fp32", 6144))
    ]


def activation(arch: str) -> list[dict[str, int | str]]:
    return [{"SCALAR": scalar, "FFN": 14336} for scalar in ("bf16", "fp16", "fp32")]


def rope(arch: str) -> list[dict[str, int | str]]:
    heads = {"HEADS": 32, "KV_HEADS": 8, "DIM": 128, "ROTARY": 64, "PAGE_TOKENS": 64}
    return [{"SCALAR": scalar, **heads} for scalar in ("bf16", "fp16", "fp32")]


def store_codes(arch: str) -> list[dict[str, int | str]]:
    heads = {"HEADS": 32, "KV_HEADS": 8, "DIM": 128, "ROTARY": 64, "PAGE_TOKENS": 64}
    formats = [1, 2]
    if matrix_scalar(arch) == "bf16":
        formats.append(4)
    if arch in {"sm_89", "sm_90a"}:
        formats.append(3)
    return [{"SCALAR": matrix_scalar(arch), "KV_FORMAT": format, **heads} for format in formats]


def quantize_rows(arch: str) -> list[dict[str, int | str]]:
    codes = ("int8", "e4m3") if arch in ("sm_89", "sm_90a") else ("int8",)
    return [
        {
            "SCALAR": scalar,
            "CODE": code,
            "HIDDEN": hidden,
            "THREADS": row_threads(hidden, num_rows=num_rows, num_sms=132),
        }
        for code in codes
        for scalar, hidden, num_rows in (("bf16", 4096, 1), ("bf16", 14336, 8192), ("fp16", 28672, 8192))
    ]


def dequantize_int4(arch: str) -> list[dict[str, int | str]]:
    return [{"SCALAR": scalar, "INPUTS": 14336, "GROUP_INPUTS": 128} for scalar in ("bf16", "fp16")]


def dequantize_bf12(arch: str) -> list[dict[str, int | str]]:
    return [{"INPUTS": 4096}]


def dequantize_pages(arch: str) -> list[dict[str, int | str]]:
    return [
        {"SCALAR": "bf16", "KV_HEADS": 8, "DIM": dim, "PAGE_TOKENS": 64, "KV_FORMAT": format}
        for dim in (96, 256)
        for format in (1, 2, 3, 4)
    ]


def layer_norm(arch: str) -> list[dict[str, int | str]]:
    return [
        {"SCALAR": scalar, "HIDDEN": hidden}
        for scalar, hidden in (("bf16", 1024), ("fp16", 2048), ("fp32", 1024))
    ]


def patch_rows(arch: str) -> list[dict[str, int | str]]:
    return [
        {"SCALAR": scalar, "PATCH": patch, "COLUMNS": columns, "WIDTH": width}
        for scalar, patch, columns, width in (
            ("bf16", 14, 32, 592),
            ("fp16", 16, 24, 776),
            ("fp32", 14, 24, 592),
        )
    ]


def choose_token(arch: str) -> list[dict[str, int | str]]:
    return [{"SCALAR": scalar} for scalar in ("fp32", matrix_scalar(arch))]


def sum_ranks(arch: str) -> list[dict[str, int | str]]:
    return [
        {"SCALAR": scalar, "RANKS": size, "MOST_BLOCKS": most_blocks(size)}
        for scalar, size in (("fp32", 2), (matrix_scalar(arch), 8))
    ]


def sum_ranks_norm(arch: str) -> list[dict[str, int | str]]:
    codes = [constants for constants in quantize_rows(arch) if constants["HIDDEN"] == 4096]
    return [
        {"RANKS": size, "MOST_ROWS": most_rows(size), "SLOT_BYTES": SLOT_BYTES} | row
        for size, row in ((2, norm(arch)[0]), (8, norm(arch)[1]), *((2, row) for row in codes))
    ]


def rope_tables(arch: str) -> list[dict[str, int | str]]:
    return [{"ROTARY": rotary, "KIND": kind} for rotary, kind in ((64, 0), (48, 1), (64, 2), (16, 3))]


def step_rows(arch: str) -> list[dict[str, int | str]]:
    return [{"PAGES": PAGES}]


def cut_tiles(arch: str) -> list[dict[str, int | str]]:
    return [{"TILES": tiles} for tiles in (0, 1)]


KERNELS = {
    "activation.cu": activation,
    "attention_decode.cu": attention_decode,
    "attention_full.cu": attention_full,
    "attention_full_hopper.cu": attention_full_hopper,
    "attention_prefill.cu": attention_prefill,
    "attention_prefill_hopper.cu": attention_prefill_hopper,
    "choose_token.cu": choose_token,
    "cut_tiles.cu": cut_tiles,
    "dequantize_bf12.cu": dequantize_bf12,
    "dequantize_int4.cu": dequantize_int4,
    "dequantize_pages.cu": dequantize_pages,
    "layer_norm.cu": layer_norm,
    "patch_rows.cu": patch_rows,
    "linear_chain_int4.cu": linear_chain_int4,
    "linear_chain_int4_hopper.cu": linear_chain_int4_hopper,
    "linear_bf12.cu": linear_bf12,
    "linear_even.cu": linear_even,
    "linear_columns.cu": linear_columns,
    "linear_fp7.cu": linear_fp7,
    "linear_hopper.cu": linear_hopper,
    "linear_int4_hopper.cu": linear_int4_hopper,
    "linear_rows.cu": linear_rows,
    "linear_skinny.cu": linear_skinny,
    "linear_skinny_bf12.cu": linear_skinny_bf12,
    "linear_skinny_int4.cu": linear_skinny_int4,
    "linear_tiles.cu": linear_tiles,
    "norm.cu": norm,
    "quantize_rows.cu": quantize_rows,
    "rope.cu": rope,
    "rope_tables.cu": rope_tables,
    "step_rows.cu": step_rows,
    "store_codes.cu": store_codes,
    "sum_ranks.cu": sum_ranks,
    "sum_ranks_norm.cu": sum_ranks_norm,
}


# A kernel that uses instructions of one architecture has no constants for the others.
TARGETS = [(file, arch) for file in sorted(KERNELS) for arch in ARCHITECTURES if KERNELS[file](arch)]
# They have the same registers, and one header alone asks which of them it is compiled for (a test says so):
# where it is not reached, the assembler gets the same program for all three.
ALIKE = ("sm_80", "sm_86", "sm_89")
ASKS_WHICH = "device/codes.cuh"


def cases(source: KernelSource, arch: str) -> list[dict[str, int | str]]:
    """Return what a kernel is compiled with: nothing twice, and what `ALIKE` share for one of them."""
    unique = [
        dict(case) for case in dict.fromkeys(tuple(case.items()) for case in KERNELS[source.name](arch))
    ]
    if arch not in ALIKE or ASKS_WHICH in dict(source.headers):
        return unique

    def chosen(number: int, case: Mapping[str, int | str]) -> bool:
        alike = [other for other in ALIKE if case in KERNELS[source.name](other)]
        turn = alike.index(arch)
        return number % len(alike) == turn or number == turn % len(unique)

    return [case for number, case in enumerate(unique) if chosen(number, case)]


@pytest.mark.parametrize(("file", "arch"), TARGETS)
def test_kernels_compile_without_spills(file: str, arch: str, builds: Path) -> None:
    source = read_kernel(file)
    for constants in cases(source, arch):
        log = compiler_log(builds, source, arch=arch, constants=constants)
        usage = resource_usage(log)
        assert usage, "the compiler reported no entry"
        assert "Performance Loss" not in log, "products of a warpgroup wait for each other"
        spilled = {entry: use for entry, use in usage.items() if use.spill_bytes or use.stack_bytes}
        assert not spilled, (constants, spilled)


@pytest.mark.parametrize("file", sorted(KERNELS))
def test_every_case_is_compiled_and_every_architecture_compiles_one(file: str) -> None:
    source = read_kernel(file)
    compiled = {arch: cases(source, arch) for arch in ARCHITECTURES}
    on_alike = [case for arch in ALIKE for case in compiled[arch]]
    for arch in ARCHITECTURES:
        wanted = KERNELS[file](arch)
        assert bool(compiled[arch]) is bool(wanted)
        assert all(case in (on_alike if arch in ALIKE else compiled[arch]) for case in wanted)


def test_only_one_header_tells_architectures_apart_that_are_alike() -> None:
    asking = [
        path.relative_to(kernel_dir()).as_posix()
        for path in sorted(kernel_dir().rglob("*.cu*"))
        for number in re.findall(r"__CUDA_ARCH__\s*\S+\s*(\d+)", path.read_text(encoding="utf-8"))
        if int(number) not in (800, 900)
    ]
    assert asking == [ASKS_WHICH]


def test_no_kernel_is_left_out() -> None:
    assert sorted(path.name for path in kernel_dir().glob("*.cu")) == sorted(KERNELS)
    assert all((file, "sm_90a") in TARGETS for file in KERNELS)


def test_a_kernel_that_is_not_for_every_architecture_says_for_which() -> None:
    lines = (kernel_dir() / "README.md").read_text(encoding="utf-8").splitlines()
    for file in KERNELS:
        (row,) = (line for line in lines if line.startswith(f"| `{file}` |"))
        missing = [arch for arch in ARCHITECTURES if (file, arch) not in TARGETS]
        if missing:
            assert missing in (["sm_75"], ["sm_75", "sm_80", "sm_86", "sm_89"]), file
            assert ("sm_80 to 89" if missing == ["sm_75"] else "sm_90") in row, row


@pytest.mark.parametrize("file", sorted(KERNELS))
def test_a_missing_constant_stops_at_the_kernels_own_words(file: str) -> None:
    with pytest.raises(KernelError, match=r"(\.cu|\.cuh) needs -D"):
        compile_cubin(read_kernel(file), arch="sm_90a", constants={})
