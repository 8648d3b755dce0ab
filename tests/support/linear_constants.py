"""Constants that kernels of linear layers are compiled with, by architecture."""

from collections.abc import Callable, Iterable
from typing import get_args

from gpu_limits import SHARED, matrix_scalar

from engines.turbomind.ops.after_product import After
from engines.turbomind.ops.bf12_cut import Bf12Cut
from engines.turbomind.ops.bf12_cut import make_cut as make_bf12_cut
from engines.turbomind.ops.chain_layers import ChainSizes
from engines.turbomind.ops.columns_cut import make_cut as make_columns_cut
from engines.turbomind.ops.fp7_cut import Fp7Cut
from engines.turbomind.ops.fp7_cut import make_cut as make_fp7_cut
from engines.turbomind.ops.hopper_cut import Kind, make_cut
from engines.turbomind.ops.int4_cut import make_cut as make_int4_cut
from engines.turbomind.ops.linear_chain_int4 import make_shape as chain_int4_shape
from engines.turbomind.ops.linear_chain_int4_hopper import make_shape as chain_int4_hopper_shape
from engines.turbomind.ops.linear_columns import constants as linear_columns_constants
from engines.turbomind.ops.linear_even import ROWS as EVEN_ROWS
from engines.turbomind.ops.linear_even import constants as linear_even_constants
from engines.turbomind.ops.linear_even import stages_of
from engines.turbomind.ops.linear_hopper import constants as linear_hopper_constants
from engines.turbomind.ops.linear_rows import constants as linear_rows_constants
from engines.turbomind.ops.linear_skinny import skinny_shape
from engines.turbomind.ops.linear_skinny_bf12 import bf12_skinny_shape
from engines.turbomind.ops.linear_skinny_int4 import skinny_int4_shape
from engines.turbomind.ops.linear_tiles import constants as linear_tiles_constants
from engines.turbomind.ops.rows_cut import CUTS as ROWS_CUTS
from engines.turbomind.ops.rows_cut import RowsCut
from engines.turbomind.ops.rows_cut import make_cut as make_rows_cut
from engines.turbomind.ops.tiles_cut import CUTS as TILES_CUTS
from engines.turbomind.ops.tiles_cut import make_cut as make_tiles_cut


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


def linear_bf12(arch: str) -> list[dict[str, int | str]]:
    # rows, groups, turns, cluster, gated: where registers are shortest, by the steps unpacked at once
    cuts = (
        (8, 4, 1, 1, True),
        (64, 4, 1, 1, True),
        (64, 1, 3, 2, False),
        (128, 4, 1, 1, True),
        (128, 1, 2, 2, False),
    )
    return _cut_constants(arch, make_bf12_cut, cuts)


def linear_fp7(arch: str) -> list[dict[str, int | str]]:
    # rows, groups, turns, cluster, gated: where registers are shortest, by steps at once and where sums are
    cuts = (
        (8, 4, 1, 1, True),
        (32, 1, 3, 1, False),
        (64, 4, 1, 1, True),
        (64, 1, 3, 2, False),
        (128, 4, 1, 1, True),
        (128, 1, 3, 2, False),
        (128, 1, 2, 2, False),
    )
    return _cut_constants(arch, make_fp7_cut, cuts)


def _cut_constants(
    arch: str, make: Callable[..., Bf12Cut | Fp7Cut | None], cuts: Iterable[tuple[int, int, int, int, bool]]
) -> list[dict[str, int | str]]:
    """Return what a kernel for sm_90a is compiled with, by rows, groups, turns, cluster and gates."""
    cases = []
    for rows, groups, turns, cluster, gated in cuts if arch == "sm_90a" else ():
        cut = make(
            rows=rows,
            groups=groups,
            turns=turns,
            cluster=cluster,
            gated=gated,
            inputs=4096,
            shared_bytes=SHARED[arch][0],
        )
        assert cut is not None
        cases.append(dict(cut.constants()))
    return cases


def linear_skinny(arch: str) -> list[dict[str, int | str]]:
    cases = []
    for num_rows, outputs in ((1, 28672), (16, 28672), (8, 6144)):
        shape = skinny_shape(
            num_rows=num_rows, num_outputs=outputs, num_sms=132, bytes_per_block=SHARED[arch][0]
        )
        cases.append({"SCALAR": matrix_scalar(arch), **dict(shape.constants(4096))})
    return cases


def linear_skinny_bf12(arch: str) -> list[dict[str, int | str]]:
    return [
        dict(
            bf12_skinny_shape(
                num_rows=num_rows, num_outputs=outputs, num_sms=132, bytes_per_block=SHARED[arch][0]
            ).constants(4096)
        )
        for num_rows, outputs in ((1, 28672), (16, 28672), (16, 92608), (8, 6144))
        if matrix_scalar(arch) == "bf16"
    ]


def linear_skinny_int4(arch: str) -> list[dict[str, int | str]]:
    cases = []
    # rows, outputs, inputs of a scale
    for num_rows, outputs, group_size in (
        (1, 28672, 128),
        (8, 6144, 32),
        (8, 28672, 128),
        (8, 28672, 64),
        (8, 4096, 128),
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
        if shape is not None and arch == "sm_90a" and num_rows == 8:
            cases.append(cases[-1] | ({"ADDED": 1} if shape.parts(outputs) else {"NORMED": 128}))
    return cases


def linear_chain_int4(arch: str) -> list[dict[str, int | str]]:
    # rows, hidden, attended, ffn, qkv, inputs of a scale: x kept for two rounds and for one
    sizes = (
        (4, 4096, 4096, 14336, 6144, 128),
        (1, 4096, 4096, 14336, 6144, 128),
        (2, 2048, 2048, 8192, 4096, 64),
        (4, 3584, 3584, 18944, 4608, 32),
    )
    cases = []
    for num_rows, *layers in sizes if arch == "sm_90a" else ():
        shape = chain_int4_shape(
            ChainSizes(*layers), num_rows=num_rows, num_sms=132, shared_bytes=SHARED[arch][0]
        )
        assert shape is not None
        cases.append(dict(shape.constants()))
    return cases


def linear_chain_int4_hopper(arch: str) -> list[dict[str, int | str]]:
    sizes = ChainSizes(hidden=4096, attended=4096, ffn=14336, qkv=6144, group_size=128)
    cases = []
    for num_rows in (8, 16, 32, 64) if arch == "sm_90a" else ():
        shape = chain_int4_hopper_shape(sizes, num_rows=num_rows, num_sms=132, shared_bytes=SHARED[arch][0])
        assert shape is not None
        cases.append(dict(shape.constants()))
    return cases


def linear_rows(arch: str) -> list[dict[str, int | str]]:
    if arch != "sm_90a":
        return []
    cuts = {cut: make_rows_cut(*cut, bytes_per_block=SHARED[arch][0]) for cut in ROWS_CUTS}
    # where registers are shortest with every end, then every other cut
    cases: list[tuple[RowsCut, After]] = [(cuts[256, 2], after) for after in get_args(After)]
    cases += [(cuts[256, 1], "gelu"), (cuts[192, 2], "add"), (cuts[192, 1], "gelu")]
    cases += [(cuts[128, 2], "gelu"), (cuts[128, 1], "add")]
    return [dict(linear_rows_constants("bf16", cut, after)) for cut, after in cases]


def linear_columns(arch: str) -> list[dict[str, int | str]]:
    if arch != "sm_90a":
        return []
    # rows, groups, cluster and what follows: where registers are shortest, then the other forms
    cuts: list[tuple[int, int, int, After]] = [(192, 3, 1, after) for after in get_args(After)]
    cuts += [(208, 2, 1, "gelu"), (208, 2, 2, "add"), (80, 2, 1, "add")]
    return [
        dict(linear_columns_constants("bf16", make_columns_cut(*cut, bytes_per_block=SHARED[arch][0]), after))
        for *cut, after in cuts
    ]


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
