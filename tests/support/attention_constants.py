"""Constants that attention kernels are compiled with, by architecture."""

from typing import get_args

from gpu_limits import SHARED, matrix_scalar

from engines.options import KvFormat
from engines.turbomind.ops.attention_decode import decode_constants
from engines.turbomind.ops.attention_full import CUTS as full_cuts
from engines.turbomind.ops.attention_prefill import CUTS as prefill_cuts
from engines.turbomind.ops.decode_shape import decode_shape
from engines.turbomind.ops.flash_shape import Cut, flash_shape
from engines.turbomind.ops.hopper_shape import HopperShape, full_shape, prefill_shape


def attention_decode(arch: str) -> list[dict[str, int | str]]:
    cases = []
    # size, group, window, format of keys and values, segments, rotated pairs
    heads: list[tuple[int, int, int, KvFormat, int, int]] = [
        (128, 4, 0, "none", 512, 0),
        (128, 4, 0, "none", 512, 64),
        (128, 4, 0, "int8", 512, 64),
        (96, 1, 2047, "none", 512, 48),
    ]
    if arch == "sm_90a":
        heads += [
            (128, 4, 0, format, segments, 64) for format in get_args(KvFormat) for segments in (8, 200, 512)
        ]
        heads += [(128, 4, 0, "none", 64, 64), (128, 4, 0, "int8", 64, 64), (128, 4, 0, "int8", 128, 64)]
        heads += [(64, 7, 0, "none", 8, 32), (128, 16, 0, "none", 512, 64), (128, 4, 0, "int4", 512, 0)]
        heads += [(128, 8, 0, "fp8", 512, 32), (64, 16, 0, "int8", 8, 32), (128, 16, 0, "int4", 512, 64)]
        heads += [(64, 7, 0, "bf12", 8, 32), (96, 1, 2047, "bf12", 512, 48), (256, 2, 0, "bf12", 512, 128)]
        heads += [(128, 16, 0, "bf12", 512, 64), (128, 4, 0, "bf12", 512, 0)]
        heads += [(256, 2, 0, "int8", 512, 128), (256, 2, 0, "none", 8, 128)]
    for dim, group, window, format, segments, num_pairs in heads:
        shape = decode_shape(
            segments=segments,
            dim=dim,
            group=group,
            bytes_per_block=SHARED[arch][0],
            bytes_per_sm=SHARED[arch][1],
            format=format,
            cluster_sms=132 if arch == "sm_90a" else 0,
        )
        constants = decode_constants(
            shape,
            scalar=matrix_scalar(arch),
            dim=dim,
            num_pairs=num_pairs,
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
    shapes = [
        (dim, full_shape((9, 0), dim=dim, length=length, pairs=pairs, num_sms=132))
        for dim in (64, 72, 80, 88, 104, 128)
        for length, pairs in ((1025, 16), (1024, 128), (577, 400))
    ]
    cases = {(dim, shape): {**hopper(shape, dim), "HEADS": 16} for dim, shape in shapes if shape}
    return list(cases.values()) if arch == "sm_90a" else []


def hopper(shape: HopperShape, dim: int) -> dict[str, int | str]:
    return dict(shape.constants("bf16", dim))


def flash(cuts: tuple[tuple[int, Cut], ...], arch: str, dim: int) -> dict[str, int | str]:
    shape = flash_shape(cuts, dim, bytes_per_block=SHARED[arch][0], bytes_per_sm=SHARED[arch][1])
    return dict(shape.constants(matrix_scalar(arch), dim))
