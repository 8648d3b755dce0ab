from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loop_engine import LoopEngine
from tiny_engine import SPEC

from engines.ipc.pixel_files import PixelFiles
from engines.ops import Int4
from engines.quant.int4_tiles import dequantize
from engines.quant.linear_tensors import linear_of
from engines.quant.weight_quant import WeightFormat, WeightQuant
from engines.weights.parameter import Parameter
from engines.weights.quantized_bytes import quantized_bytes
from engines.weights.random_quantized import random_quantized

FORMATS: tuple[WeightFormat, ...] = ("awq", "gptq", "int8", "fp8")


@pytest.mark.parametrize("form", FORMATS)
def test_random_layers_keep_the_size_of_activations_and_take_the_planned_bytes(form: WeightFormat) -> None:
    quant = WeightQuant(format=form, group_size=128 if form in ("awq", "gptq") else None)
    parameter = Parameter(name="decoder.layers.0.o.weight", shape=(256, 384))
    tensors = random_quantized(parameter, quant, torch.Generator().manual_seed(0), tp=1)
    weight = linear_of(tensors, "decoder.layers.0.o")
    if isinstance(weight, Int4):
        matrix = dequantize(weight, torch.float32)
    else:
        matrix = weight.weight_OI.float() * weight.scale_O[:, None]  # type: ignore[union-attr]  # no Dense
    assert float(matrix.std()) == pytest.approx(384**-0.5, rel=0.03)
    held = sum(tensor.nbytes for name, tensor in tensors.items() if not name.endswith(".group_size"))
    assert held == quantized_bytes(parameter, quant, tp=1)


@pytest.mark.parametrize("form", FORMATS)
def test_an_engine_runs_on_random_weights_of_any_format(form: WeightFormat, tmp_path: Path) -> None:
    files = PixelFiles()
    spec = replace(SPEC, quantization=WeightQuant(format=form, group_size=128, decoder_only=True))
    engine = LoopEngine(files, spec=spec)
    name = engine.submit([1, 2, 3, 4], max_new_tokens=4, ignore_eos=True)
    engine.run()
    files.close()
    assert len(engine.tokens[name]) == 4
