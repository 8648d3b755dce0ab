"""Every kernel compiles for every supported architecture without spilling a register. Needs no GPU."""

from typing import get_args

import pytest

from engines.decode_rows import PAGES
from engines.errors import KernelError
from engines.options import KvFormat
from engines.turbomind.kernel_source import kernel_dir, read_kernel
from engines.turbomind.nvrtc import compile_cubin, resource_usage
from engines.turbomind.ops.attention_decode import decode_constants, decode_shape
from engines.turbomind.ops.attention_full import CUTS as full_cuts
from engines.turbomind.ops.attention_prefill import CUTS as prefill_cuts
from engines.turbomind.ops.flash_shape import Cut, flash_shape
from engines.turbomind.ops.hopper_cut import Kind, make_cut
from engines.turbomind.ops.hopper_shape import HopperShape, full_shape, prefill_shape
from engines.turbomind.ops.int4_cut import make_cut as make_int4_cut
from engines.turbomind.ops.linear_even import ROWS as EVEN_ROWS
from engines.turbomind.ops.linear_even import constants as linear_even_constants
from engines.turbomind.ops.linear_even import stages_of
from engines.turbomind.ops.linear_hopper import constants as linear_hopper_constants
from engines.turbomind.ops.linear_rows import After
from engines.turbomind.ops.linear_rows import constants as linear_rows_constants
from engines.turbomind.ops.linear_skinny import skinny_shape
from engines.turbomind.ops.linear_skinny_int4 import skinny_int4_shape
from engines.turbomind.ops.linear_tiles import constants as linear_tiles_constants
from engines.turbomind.ops.norm import num_threads
from engines.turbomind.ops.quantize_rows import row_threads
from engines.turbomind.ops.rows_cut import COLUMNS as ROWS_CUT_COLUMNS
from engines.turbomind.ops.rows_cut import make_cut as make_rows_cut
from engines.turbomind.ops.sum_ranks import most_blocks
from engines.turbomind.ops.tiles_cut import CUTS as TILES_CUTS
from engines.turbomind.ops.tiles_cut import make_cut as make_tiles_cut

pytest.importorskip("cuda.bindings.nvrtc", reason="the extra `cuda` is not installed")

# Shared memory of a block and of an SM, bytes: CUDA C++ Programming Guide 13.0, compute capabilities.
SHARED = {
    "sm_75": (65536, 65536),
    "sm_80": (166912, 167936),
    "sm_86": (101376, 102400),
    "sm_89": (101376, 102400),
    "sm_90a": (232448, 233472),
}
ARCHITECTURES = sorted(SHARED)


def matrix_scalar(arch: str) -> str:
    return "fp16" if arch == "sm_75" else "bf16"


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
    formats = (1, 2, 3) if arch in {"sm_89", "sm_90a"} else (1, 2)
    return [{"SCALAR": matrix_scalar(arch), "KV_FORMAT": format, **heads} for format in formats]


def attention_decode(arch: str) -> list[dict[str, int | str]]:
    cases = []
    # size, group, window, format of keys and values
    heads: list[tuple[int, int, int, KvFormat]] = [
        (128, 4, 0, "none"),
        (128, 4, 0, "int8"),
        (96, 1, 2047, "none"),
    ]
    if arch == "sm_90a":
        heads += [(64, 7, 0, "none"), (128, 16, 0, "none"), (128, 4, 0, "int4"), (128, 8, 0, "fp8")]
        heads += [(64, 16, 0, "int8"), (128, 16, 0, "int4"), (256, 2, 0, "int8")]
    for dim, group, window, format in heads:
        shape = decode_shape(
            segments=8 if dim == 64 else 512,
            dim=dim,
            group=group,
            bytes_per_block=SHARED[arch][0],
            bytes_per_sm=SHARED[arch][1],
            format=format,
        )
        constants = decode_constants(
            shape,
            scalar=matrix_scalar(arch),
            dim=dim,
            num_kv_heads=8,
            group=group,
            page_tokens=64,
            window=window,
            format=format,
        )
        cases.append(dict(constants))
    return cases


def attention_prefill(arch: str) -> list[dict[str, int | str]]:
    return [
        {**flash(prefill_cuts, arch, dim), "KV_HEADS": 8, "GROUP": group, "PAGE_TOKENS": 64, "WINDOW": window}
        for dim, group, window in ((128, 4, 0), (96, 1, 2047), (64, 7, 0))
    ]


def attention_full(arch: str) -> list[dict[str, int | str]]:
    return [{**flash(full_cuts, arch, dim), "HEADS": 16} for dim in (64, 128)]


def attention_prefill_hopper(arch: str) -> list[dict[str, int | str]]:
    if arch != "sm_90a":
        return []
    cases = []
    # head, group, window; items of 128 rows: many, few
    for dim, group, window, items in (
        (128, 4, 0, 512),
        (128, 8, 0, 8),
        (96, 1, 2047, 512),
        (64, 7, 0, 8),
        (256, 2, 0, 512),
    ):
        shape = prefill_shape((9, 0), dim=dim, page_tokens=64, items=items, num_sms=132)
        assert shape
        paged = {"KV_HEADS": 8, "GROUP": group, "PAGE_TOKENS": 64, "BOX_KEYS": 64, "WINDOW": window}
        cases.append({**hopper(shape, dim), **paged})
    return cases


def attention_full_hopper(arch: str) -> list[dict[str, int | str]]:
    shapes = {dim: full_shape((9, 0), dim=dim) for dim in (64, 72, 80, 88, 104, 128)}
    return [
        {**hopper(shape, dim), "HEADS": 16} for dim, shape in shapes.items() if shape and arch == "sm_90a"
    ]


def hopper(shape: HopperShape, dim: int) -> dict[str, int | str]:
    return dict(shape.constants("bf16", dim))


def flash(cuts: tuple[tuple[int, Cut], ...], arch: str, dim: int) -> dict[str, int | str]:
    shape = flash_shape(cuts, dim, bytes_per_block=SHARED[arch][0], bytes_per_sm=SHARED[arch][1])
    return dict(shape.constants(matrix_scalar(arch), dim))


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


def dequantize_pages(arch: str) -> list[dict[str, int | str]]:
    return [
        {"SCALAR": "bf16", "KV_HEADS": 8, "DIM": dim, "PAGE_TOKENS": 64, "KV_FORMAT": format}
        for dim in (96, 256)
        for format in (1, 2, 3)
    ]


def linear_hopper(arch: str) -> list[dict[str, int | str]]:
    # kind, most rows, groups: where registers are shortest
    cuts: tuple[tuple[Kind, int, int], ...] = (
        ("dense", 8, 4),
        ("dense", 256, 2),
        ("dense", 128, 4),
        ("e4m3", 128, 2),
        ("e4m3", 64, 4),
        ("e4m3", 256, 2),
        ("e4m3", 128, 4),
        ("int8", 256, 2),
    )
    cases = []
    for kind, rows, groups in cuts if arch == "sm_90a" else ():
        cut = make_cut(
            kind,
            rows=rows,
            groups=groups,
            cluster=2,
            inputs=4096,
            shared_bytes=SHARED[arch][0],
        )
        assert cut is not None
        cases.append(dict(linear_hopper_constants(kind, cut, "bf16")))
    return cases


def linear_int4_hopper(arch: str) -> list[dict[str, int | str]]:
    # rows, groups, turns, gated, inputs of a scale: where registers are shortest, by the way codes go
    cuts = (
        (8, 1, 4, False, 128),
        (32, 4, 1, True, 64),
        (64, 4, 1, True, 128),
        (64, 1, 3, False, 32),
        (128, 2, 1, True, 256),
    )
    cases = []
    for rows, groups, turns, gated, group_size in cuts if arch == "sm_90a" else ():
        cut = make_int4_cut(
            rows=rows,
            groups=groups,
            turns=turns,
            gated=gated,
            inputs=4096,
            group_size=group_size,
            shared_bytes=SHARED[arch][0],
        )
        assert cut is not None
        cases += [dict(cut.constants(scalar, group_size)) for scalar in ("bf16", "fp16")]
    return cases


def linear_skinny(arch: str) -> list[dict[str, int | str]]:
    cases = []
    for num_rows, outputs in ((1, 28672), (16, 28672), (8, 6144)):
        shape = skinny_shape(
            num_rows=num_rows, num_outputs=outputs, num_sms=132, bytes_per_block=SHARED[arch][0]
        )
        cases.append(
            {
                "SCALAR": matrix_scalar(arch),
                "INPUTS": 4096,
                "COLUMNS": shape.columns,
                "TILES": shape.tiles,
                "PASSES": shape.passes,
                "WARPS": shape.warps,
                "STAGES": shape.stages,
            }
        )
    return cases


def linear_skinny_int4(arch: str) -> list[dict[str, int | str]]:
    cases = []
    # rows, outputs, inputs of a scale
    for num_rows, outputs, group_size in (
        (1, 28672, 128),
        (8, 6144, 32),
        (8, 28672, 128),
        (8, 28672, 64),
    ):
        shape = skinny_int4_shape(
            num_rows=num_rows,
            outputs=outputs,
            inputs=2048,
            group_size=group_size,
            num_sms=132,
            bytes_per_block=SHARED[arch][0],
            clusters=arch == "sm_90a",
        )
        if shape is not None:
            cases.append(dict(shape.constants(matrix_scalar(arch), group_size)))
    return cases


def layer_norm(arch: str) -> list[dict[str, int | str]]:
    return [
        {"SCALAR": scalar, "HIDDEN": hidden}
        for scalar, hidden in (("bf16", 1024), ("fp16", 2048), ("fp32", 1024))
    ]


def linear_rows(arch: str) -> list[dict[str, int | str]]:
    if arch != "sm_90a":
        return []
    cuts = [make_rows_cut(columns, bytes_per_block=SHARED[arch][0]) for columns in ROWS_CUT_COLUMNS]
    pairs = [(cut, "gelu") for cut in cuts] + [(cuts[-1], after) for after in get_args(After)]
    return [dict(linear_rows_constants("bf16", cut, after)) for cut, after in pairs]


def linear_even(arch: str) -> list[dict[str, int | str]]:
    if arch != "sm_90a":
        return []
    return [
        dict(
            linear_even_constants(
                "bf16",
                kind,
                num_rows=num_rows,
                stages=stages_of(num_rows, bytes_per_block=SHARED[arch][0]),
                gated=gated,
            )
        )
        for num_rows in EVEN_ROWS
        for kind in ("bf16", "e4m3", "int8")
        for gated in (False, True)
    ]


def linear_tiles(arch: str) -> list[dict[str, int | str]]:
    if arch != "sm_90a":
        return []
    cuts = [make_tiles_cut(*cut, bytes_per_block=SHARED[arch][0]) for cut in TILES_CUTS]
    return [
        dict(linear_tiles_constants("bf16", kind, cut, gated=gated))
        for cut in cuts
        for kind in ("bf16", "e4m3", "int8")
        for gated in (False, True)
    ]


def choose_token(arch: str) -> list[dict[str, int | str]]:
    return [{"SCALAR": scalar} for scalar in ("fp32", matrix_scalar(arch))]


def sum_ranks(arch: str) -> list[dict[str, int | str]]:
    return [
        {"SCALAR": scalar, "RANKS": size, "MOST_BLOCKS": most_blocks(size)}
        for scalar, size in (("fp32", 2), (matrix_scalar(arch), 8))
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
    "dequantize_int4.cu": dequantize_int4,
    "dequantize_pages.cu": dequantize_pages,
    "layer_norm.cu": layer_norm,
    "linear_even.cu": linear_even,
    "linear_hopper.cu": linear_hopper,
    "linear_int4_hopper.cu": linear_int4_hopper,
    "linear_rows.cu": linear_rows,
    "linear_skinny.cu": linear_skinny,
    "linear_skinny_int4.cu": linear_skinny_int4,
    "linear_tiles.cu": linear_tiles,
    "norm.cu": norm,
    "quantize_rows.cu": quantize_rows,
    "rope.cu": rope,
    "rope_tables.cu": rope_tables,
    "step_rows.cu": step_rows,
    "store_codes.cu": store_codes,
    "sum_ranks.cu": sum_ranks,
}


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("file", sorted(KERNELS))
def test_kernels_compile_without_spills(file: str, arch: str) -> None:
    source = read_kernel(file)
    for constants in KERNELS[file](arch):
        log = compile_cubin(source, arch=arch, constants=constants).log
        usage = resource_usage(log)
        assert usage, "the compiler reported no entry"
        assert "Performance Loss" not in log, "products of a warpgroup wait for each other"
        spilled = {entry: use for entry, use in usage.items() if use.spill_bytes or use.stack_bytes}
        assert not spilled, (constants, spilled)


def test_no_kernel_is_left_out() -> None:
    assert sorted(path.name for path in kernel_dir().glob("*.cu")) == sorted(KERNELS)


@pytest.mark.parametrize("file", sorted(KERNELS))
def test_a_missing_constant_stops_at_the_kernels_own_words(file: str) -> None:
    with pytest.raises(KernelError, match=r"(\.cu|\.cuh) needs -D"):
        compile_cubin(read_kernel(file), arch="sm_90a", constants={})
