"""Which ranks keep a second copy of their weights for decode, and what it takes."""

from dataclasses import replace
from typing import Any

import pytest
from plan_cases import engine, spec

from engines.options import EngineOptions
from engines.quant.weight_quant import WeightFormat, WeightQuant
from engines.weights.decode_copy import (
    FEW_ROWS,
    DecodeCopy,
    LayerCopy,
    by_format,
    decode_copy,
    most_rows,
)

H200 = 150_109_880_320
# (outputs, inputs) of a layer, and the head with its vocabulary padded to 64
LAYER_8B = ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336))
HEAD_8B = (92_608, 4096)


def options(share: float = 0.15, **changes: Any) -> EngineOptions:
    return replace(engine(), decode_weights=share, **changes)


def copy(size: str = "8b", how: EngineOptions | None = None, **changes: Any) -> DecodeCopy:
    facts: dict[str, Any] = {
        "dtype": "bfloat16",
        "quant": None,
        "capability": (9, 0),
        "memory_bytes": H200,
    }
    return decode_copy(spec(size), how or options(), **{**facts, **changes})


def test_a_copy_is_12_bits_a_weight_and_a_factor_an_output() -> None:
    shapes = [*LAYER_8B * 32, HEAD_8B]
    found = copy()
    assert found.why_not is None
    assert found.num_bytes == sum(outputs * inputs * 3 // 2 + 2 * outputs for outputs, inputs in shapes)
    assert len(found.layers) == 32 * 4 + 1
    assert {"decoder.head", "decoder.layers.31.gate_up"} <= found.layers.keys()


def test_a_rank_copies_its_own_share() -> None:
    found = copy(how=options(tp=2))
    shapes = [*((3072, 4096), (4096, 2048), (14336, 4096), (4096, 7168)) * 32, (46_336, 4096)]
    assert found.num_bytes == sum(outputs * inputs * 3 // 2 + 2 * outputs for outputs, inputs in shapes)


def test_all_is_copied_or_nothing() -> None:
    needed = copy().num_bytes
    just = copy(how=options(needed / H200))
    assert just.num_bytes == needed
    too_small = copy(how=options(needed / H200 * 0.999))
    assert (too_small.layers, too_small.num_bytes) == ({}, 0)
    assert sum(layer.num_bytes for layer in too_small.wanted.values()) == needed
    assert too_small.why_not is not None
    assert too_small.why_not.startswith("it takes 10.28 GiB, 7.4% of this GPU's memory, and engine.decod")
    assert too_small.why_not.endswith("allows 10.27 GiB")


@pytest.mark.parametrize(
    ("how", "facts", "why"),
    [
        (options(0.0), {}, "engine.decode_weights=0"),
        (options(kind="pytorch"), {}, "engine=pytorch reads none"),
        (
            options(),
            {"dtype": "float16"},
            "an engine in float16 reads none, only one in bfloat16 does",
        ),
        (options(), {"capability": (7, 5)}, "made for compute capability 8.0 and newer, not 7.5"),
        (options(), {"capability": None}, "made for compute capability 8.0 and newer, not none"),
        (
            options(scheduler=replace(engine().scheduler, max_batch_size=17)),
            {"capability": (8, 9)},
            "on compute capability 8.9 steps of up to 16 rows read it, and engine.max_batch_size=17 lets "
            "more sequences decode at once",
        ),
    ],
)
def test_there_is_no_copy_that_nothing_reads(how: EngineOptions, facts: dict[str, Any], why: str) -> None:
    found = copy(how=how, **facts)
    assert not found.layers and not found.wanted
    assert found.why_not is not None and found.why_not.endswith(why)


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 9)])
def test_gpus_before_hopper_keep_a_copy_where_every_batch_reads_it(
    capability: Any,
) -> None:
    few = options(scheduler=replace(engine().scheduler, max_batch_size=FEW_ROWS))
    found = copy(how=few, capability=capability)
    assert found.why_not is None
    assert found.layers == copy().layers


def test_how_many_rows_read_a_copy_hangs_on_the_gpu() -> None:
    versions = (None, (7, 5), (8, 0), (8, 9), (9, 0))
    assert [most_rows("bf12", version) for version in versions] == [0, 0, FEW_ROWS, FEW_ROWS, 128]
    assert [most_rows("fp7", version) for version in versions] == [0, 0, 0, 0, 128]


@pytest.mark.parametrize("form", ["int8", "awq", "gptq"])
def test_of_a_quantized_checkpoint_only_what_stays_in_bf16_is_copied(form: WeightFormat) -> None:
    quant = WeightQuant(format=form, group_size=128 if form in ("awq", "gptq") else None, decoder_only=True)
    found = copy(quant=quant)
    assert found.layers.keys() == {"decoder.head"}
    assert found.num_bytes == 92_608 * 4096 * 3 // 2 + 2 * 92_608


@pytest.mark.parametrize("tp", [1, 2])
def test_of_e4m3_layers_7_bits_a_weight_are_copied_and_of_the_head_12(tp: int) -> None:
    found = copy(how=options(tp=tp), quant=WeightQuant(format="fp8", decoder_only=True))
    layers = ((6144 // tp, 4096), (4096, 4096 // tp), (28672 // tp, 4096), (4096, 14336 // tp))
    sevens = sum(outputs * inputs * 7 // 8 + 4 * outputs for outputs, inputs in layers * 32)
    (fp7, bf12) = by_format(found.layers.values())
    assert (fp7.format, fp7.num_bytes) == ("fp7", sevens)
    assert fp7.saved_bytes == sum(outputs * inputs // 8 for outputs, inputs in layers * 32)
    head = {1: 92_608, 2: 46_336}[tp]  # padded to 64
    assert (bf12.format, bf12.num_bytes) == ("bf12", head * 4096 * 3 // 2 + 2 * head)
    assert found.num_bytes == fp7.num_bytes + bf12.num_bytes


def test_layers_that_an_fp8_checkpoint_keeps_in_bf16_are_copied_in_12_bits() -> None:
    kept = WeightQuant(format="fp8", decoder_only=True, kept=("re:.*feed_forward.w2",))
    formats = {name.rpartition(".")[2]: layer.format for name, layer in copy(quant=kept).layers.items()}
    assert formats == {"qkv": "fp7", "o": "fp7", "gate_up": "fp7", "down": "bf12", "head": "bf12"}


def test_layers_that_are_not_whole_tiles_are_read_in_16_bits() -> None:
    found = copy("1b")  # hidden 896, FFN 4864: 7 and 38 times 128; 14 heads of 64
    assert {name.rpartition(".")[2] for name in found.layers} == {"qkv", "o", "gate_up", "down", "head"}
    shared = copy("1b", how=options(tp=2))  # 448 and 2432 inputs of `o` and `down`, 3.5 and 19 times 128
    assert {name.rpartition(".")[2] for name in shared.layers} == {"qkv", "gate_up", "down", "head"}


def test_a_model_without_whole_tiles_is_told_so() -> None:
    odd = spec("1b")
    odd = replace(odd, decoder=replace(odd.decoder, hidden=904, ffn=4860, num_heads=13, num_kv_heads=1))
    found = decode_copy(odd, options(), dtype="bfloat16", quant=None, capability=(9, 0), memory_bytes=H200)
    told = "no layer is whole tiles of 16 outputs and 128 inputs, or in e4m3 16 and 256"
    assert found.why_not == told


def test_a_quarter_of_the_bytes_is_saved_but_for_the_factors() -> None:
    head = copy().layers["decoder.head"]
    assert head.saved_bytes == 92_608 * 4096 // 2 - 2 * 92_608


def test_copies_add_up_by_format() -> None:
    found = copy()
    (total,) = by_format(found.layers.values())
    saved = sum(layer.saved_bytes for layer in found.layers.values())
    assert total == LayerCopy(format="bf12", num_bytes=found.num_bytes, saved_bytes=saved)
    assert by_format([]) == ()
