"""Second copies for decode beside the weights of a network."""

import logging
from dataclasses import replace

import pytest
import torch
from plan_cases import engine
from small_decoder import SMALL

from engines.ops import Dense, Fp8
from engines.quant import fp7_tiles
from engines.quant.bf12_tiles import bf12_of, weight_of
from engines.quant.decode_copies import decode_copies
from engines.quant.linear_tensors import linear_of
from engines.quant.weight_quant import WeightQuant
from engines.weights.decode_copy import decode_copy, layer_copies
from engines.weights.load import random_tensors

CPU, BF16 = torch.device("cpu"), torch.bfloat16


@pytest.mark.parametrize("tp", [1, 2])
def test_the_copies_take_what_the_plan_says(tp: int) -> None:
    options = replace(engine(tp=tp), decode_weights=0.5)
    planned = decode_copy(
        SMALL, options, dtype="bfloat16", quant=None, capability=(9, 0), memory_bytes=1 << 30
    )
    tensors = random_tensors(SMALL, device=CPU, dtype=BF16, seed=0, tp=tp)
    copies = decode_copies(tensors, planned.layers, rank=tp - 1, tp=tp)
    assert len(planned.layers) == 9 and len(copies) == 18
    assert sum(copy.nbytes for copy in copies.values()) == planned.num_bytes


def test_a_layer_under_a_name_brings_its_copy_and_its_bias() -> None:
    tensors = random_tensors(SMALL, device=CPU, dtype=BF16, seed=0)
    copies = decode_copies(tensors, layer_copies(SMALL, None, tp=1), rank=0, tp=1)
    bias = torch.randn(256).to(BF16)
    name = "decoder.layers.1.down"
    layer = linear_of(tensors | copies | {f"{name}.bias": bias}, name)
    assert isinstance(layer, Dense) and layer.bf12 is not None and layer.bias_O is bias
    assert layer.weight_OI is tensors[f"{name}.weight"]
    assert (weight_of(layer.bf12) - layer.weight_OI).abs().max() <= layer.weight_OI.abs().max() * 2.0**-21


@pytest.mark.parametrize("tp", [1, 2])
def test_layers_of_e4m3_are_copied_in_7_bits_and_the_head_beside_them_in_12_as_the_plan_says(tp: int) -> None:
    spec = replace(SMALL, quantization=WeightQuant(format="fp8", decoder_only=True))
    wanted = layer_copies(spec, spec.quantization, tp=tp)
    tensors = random_tensors(spec, device=CPU, dtype=BF16, seed=0, tp=tp)
    copies = decode_copies(tensors, wanted, rank=tp - 1, tp=tp)
    assert sum(copy.nbytes for copy in copies.values()) == sum(layer.num_bytes for layer in wanted.values())
    layer = linear_of(tensors | copies, "decoder.layers.1.gate_up")
    assert isinstance(layer, Fp8) and layer.fp7 is not None
    read = fp7_tiles.weight_of(layer.fp7)
    assert torch.equal(read, fp7_tiles.rounded(layer.weight_OI).float() * layer.scale_O[:, None])
    assert "decoder.head.bf12_tiles" in copies


def test_a_head_that_is_the_embedding_is_copied_from_this_ranks_rows_of_it() -> None:
    tied = replace(SMALL, decoder=replace(SMALL.decoder, tied_head=True))
    tensors = random_tensors(tied, device=CPU, dtype=BF16, seed=0, tp=2)
    assert "decoder.head.weight" not in tensors
    for rank in (0, 1):
        copies = decode_copies(tensors, ["decoder.head"], rank=rank, tp=2)
        wanted = bf12_of(tensors["decoder.embed.weight"].chunk(2)[rank])
        assert wanted is not None
        assert torch.equal(copies["decoder.head.bf12_tiles"], wanted.tiles_YXB)


def test_a_layer_that_12_bits_cannot_hold_is_named_and_the_others_are_copied(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tensors = random_tensors(SMALL, device=CPU, dtype=BF16, seed=0)
    tensors["decoder.layers.0.o.weight"][3, 5] = float("inf")
    with caplog.at_level(logging.INFO, logger="engines.quant.decode_copies"):
        copies = decode_copies(tensors, layer_copies(SMALL, None, tp=1), rank=0, tp=1)
    assert len(copies) == 16 and "decoder.layers.0.o.bf12_tiles" not in copies
    told, warned = (record.getMessage() for record in caplog.records)
    assert told.startswith(
        "weights kept a second time for decode, 8 layers of bf16 in 12 bits and 0 of e4m3 in 7: 0.00 GiB, "
    )
    assert warned.startswith("1 layers have no copy for decode, as it does not hold their numbers (NaNs, ")
    assert warned.endswith(": decoder.layers.0.o")


def test_nothing_is_said_where_nothing_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="engines.quant.decode_copies"):
        assert decode_copies({}, [], rank=0, tp=1) == {}
    assert not caplog.records
