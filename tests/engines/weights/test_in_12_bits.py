"""Weights that lie in 12 bits alone: which, their bytes, and that a network answers as rounded ones do."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loop_engine import LoopEngine
from safetensors.torch import load_file, save_file
from small_decoder import SMALL
from wide_llama import CONFIG, write_wide_checkpoint

from engines.errors import CheckpointError
from engines.families import read_spec
from engines.ipc.pixel_files import PixelFiles
from engines.ops import Dense12
from engines.pytorch.ops_torch import TorchOps
from engines.quant import bf12_tiles
from engines.quant.bf12_layer import layer_in_12_bits, log_12_bits
from engines.quant.bf12_tiles import weight_of
from engines.quant.linear_tensors import linear_of
from engines.quant.weight_quant import WeightQuant
from engines.weights.in_12_bits import left_in_16_bits
from engines.weights.load import load_network, random_tensors
from engines.weights.parameters import parameters
from engines.weights.quantized_bytes import parameter_bytes

CPU, BF16, BF12 = torch.device("cpu"), torch.bfloat16, WeightQuant(format="bf12")
IN_12_BITS = replace(SMALL, quantization=BF12)


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_a_rank_takes_the_bytes_that_are_planned(tp: int) -> None:
    tensors = random_tensors(IN_12_BITS, device=CPU, dtype=BF16, seed=0, tp=tp)
    planned = [parameter_bytes(p, IN_12_BITS, BF12, dtype_bytes=2, tp=tp) for p in parameters(IN_12_BITS)]
    assert sum(tensor.nbytes for tensor in tensors.values()) == sum(planned)


def test_layers_that_are_no_whole_tiles_on_a_rank_stay_as_they_are() -> None:
    assert left_in_16_bits(IN_12_BITS, tp=1) == []
    left = left_in_16_bits(IN_12_BITS, tp=4)  # 64 of 256 inputs of `o`
    assert left == ["decoder.layers.0.o", "decoder.layers.1.o"]
    tensors = random_tensors(IN_12_BITS, device=CPU, dtype=BF16, seed=0, tp=4)
    assert tensors["decoder.layers.0.o.weight"].dtype == BF16
    assert "decoder.layers.0.down.weight" not in tensors


def test_the_log_counts_the_layers_that_stay_and_names_their_kinds(caplog: pytest.LogCaptureFixture) -> None:
    tensors = random_tensors(IN_12_BITS, device=CPU, dtype=BF16, seed=0, tp=4)
    with caplog.at_level(logging.INFO, logger="engines.quant.bf12_layer"):
        log_12_bits(tensors, left_in_16_bits(IN_12_BITS, tp=4))
    told, warned = (record.getMessage() for record in caplog.records)
    assert told == "weights in 12 bits: 7 layers, 0.00 GiB"
    assert warned.startswith("2 linear layers of the decoder stay in 16 bits") and warned.endswith(": o")


def test_random_weights_are_those_of_16_bits_rounded() -> None:
    packed = random_tensors(IN_12_BITS, device=CPU, dtype=BF16, seed=0)
    plain = random_tensors(SMALL, device=CPU, dtype=BF16, seed=0)
    for name in ("decoder.layers.1.gate_up", "decoder.head"):
        layer = linear_of(packed, name)
        assert isinstance(layer, Dense12)
        assert torch.equal(weight_of(layer.bf12), bf12_tiles.rounded(plain[f"{name}.weight"]))


def test_a_head_that_is_the_embedding_stays_as_it_is() -> None:
    tied = replace(IN_12_BITS, decoder=replace(IN_12_BITS.decoder, tied_head=True))
    tensors = random_tensors(tied, device=CPU, dtype=BF16, seed=0)
    assert not [name for name in tensors if name.startswith("decoder.head")]
    assert tensors["decoder.embed.weight"].dtype == BF16


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    write_wide_checkpoint(folder)
    return folder


@pytest.mark.parametrize("tp", [1, 2])
def test_a_checkpoint_is_packed_layer_by_layer_as_it_is_loaded(
    wide: Path, tp: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = read_spec(CONFIG, origin="config.json")
    given: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr("engines.weights.load.Vlm", lambda spec, tensors, **how: given.append(tensors))
    with caplog.at_level(logging.INFO, logger="engines.quant.bf12_layer"):
        for quant in (None, BF12):
            how = replace(spec, quantization=quant)
            load_network(wide, how, ops=TorchOps(), device=CPU, dtype=BF16, rank=tp - 1, tp=tp)
    plain, packed = given
    layers = [name.removesuffix(".factor") for name in packed if name.endswith(".factor")]
    assert len(layers) == 4 * CONFIG["num_hidden_layers"] + 1
    for layer in layers:
        made = linear_of(packed, layer)
        assert isinstance(made, Dense12)
        assert torch.equal(weight_of(made.bf12), bf12_tiles.rounded(plain[f"{layer}.weight"]))
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("weights in 12 bits: 25 layers, 0.")


def test_numbers_that_12_bits_do_not_hold_are_refused_by_name(wide: Path, tmp_path: Path) -> None:
    tensors = load_file(wide / "model.safetensors")
    tensors["model.layers.3.mlp.down_proj.weight"][5, 7] = 70000.0
    save_file(tensors, tmp_path / "model.safetensors")
    spec = replace(read_spec(CONFIG, origin="config.json"), quantization=BF12)
    with pytest.raises(CheckpointError, match=r"`decoder\.layers\.3\.down` has weights of 65,536 and more"):
        load_network(tmp_path, spec, ops=TorchOps(), device=CPU, dtype=BF16)


def test_an_engine_runs_on_random_weights_in_12_bits() -> None:
    files = PixelFiles()
    engine = LoopEngine(files, spec=IN_12_BITS)
    name = engine.submit([1, 2, 3, 4], max_new_tokens=12, ignore_eos=True)
    engine.run()
    files.close()
    assert len(engine.tokens[name]) == 12


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_a_layer_in_12_bits_multiplies_as_the_rounded_matrix(dtype: torch.dtype) -> None:
    weight = torch.randn(48, 256).to(BF16)
    layer = layer_in_12_bits(weight, "o")
    x, bias = torch.randn(3, 256, dtype=dtype), torch.randn(48, dtype=dtype)
    wanted = torch.nn.functional.linear(x, bf12_tiles.rounded(weight).to(dtype), bias)
    assert torch.equal(TorchOps().linear(x, replace(layer, bias_O=bias)), wanted)
