"""Folding scales into a decoder layer, on every shape of heads."""

from dataclasses import replace

import pytest
import torch
from quantizing import METHOD
from torch import Tensor

from engines.quant.decoder_layer import LINEARS, quantize_layer
from engines.quant.decoder_stream import DecoderStream
from engines.quant.prompt_steps import CalibrationPrompt
from engines.quant.rounding import Codes
from engines.quant.statistics import InputStatistics
from engines.spec import DecoderSpec, RopeSpec

NAME = "decoder.layers.0"
CPU = torch.device("cpu")


def spec_of(heads: int, kv_heads: int) -> DecoderSpec:
    return DecoderSpec(
        num_layers=1,
        hidden=32,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=16,
        ffn=48,
        vocab=50,
        norm_eps=1e-5,
        rope=RopeSpec(theta=10000.0),
        max_positions=64,
        qkv_bias=True,
    )


def params_of(spec: DecoderSpec) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim
    shapes = {
        "attention_norm.weight": (spec.hidden,),
        "ffn_norm.weight": (spec.hidden,),
        "qkv.weight": (rows, spec.hidden),
        "qkv.bias": (rows,),
        "o.weight": (spec.hidden, spec.num_heads * spec.head_dim),
        "gate_up.weight": (2 * spec.ffn, spec.hidden),
        "down.weight": (spec.hidden, spec.ffn),
    }
    params = {f"{NAME}.{key}": torch.randn(shape, generator=generator) * 0.3 for key, shape in shapes.items()}
    for norm in ("attention_norm", "ffn_norm"):  # some inputs are loud
        params[f"{NAME}.{norm}.weight"] = torch.ones(spec.hidden)
        params[f"{NAME}.{norm}.weight"][::7] = 20.0
    return params


def run(
    spec: DecoderSpec, params: dict[str, Tensor], seen: dict[str, InputStatistics] | None = None
) -> Tensor:
    prompts = [CalibrationPrompt(token_ids=tuple(range(20)), images=(), answer_start=0)]
    stream = DecoderStream(spec, prompts, {}, calibrating=1, device=CPU, dtype=torch.float32)
    table = torch.randn(spec.vocab, spec.hidden, generator=torch.Generator().manual_seed(1))
    (rows,) = stream.layer(params, NAME, stream.embed(table), seen)
    return rows


@pytest.mark.parametrize("form", ["awq", "int8"])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
def test_a_layer_whose_inputs_were_scaled_computes_what_it_did(
    heads: int, kv_heads: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact: list[Tensor] = []

    def unrounded(weight_OI: Tensor, *_: object) -> Codes:
        exact.append(weight_OI)
        return Codes(
            codes_OI=torch.zeros(weight_OI.shape, dtype=torch.uint8),
            scales_OG=torch.ones(len(weight_OI), 1),
            zeros_OG=torch.zeros(len(weight_OI), 1, dtype=torch.uint8),
        )

    monkeypatch.setattr("engines.quant.decoder_layer._codes", unrounded)
    monkeypatch.setattr("engines.quant.decoder_layer._gains", lambda *_: True)
    spec = spec_of(heads, kv_heads)
    params = params_of(spec)
    seen = {
        f"{NAME}.{linear}.weight": InputStatistics(params[f"{NAME}.{linear}.weight"].shape[1], CPU)
        for linear in LINEARS
    }
    wanted = run(spec, params, seen)
    assert all(part.num_rows == 20 for part in seen.values())
    size = None if form == "int8" else 16
    made = quantize_layer(spec, params, NAME, seen, replace(METHOD, format=form, group_size=size))  # type: ignore[arg-type]  # a parameter
    assert any(key.endswith("norm.weight") for key in made.changed)
    assert f"{NAME}.qkv.bias" in made.changed
    moved = run(spec, params | made.changed | dict(zip(seen, exact, strict=True))) - wanted
    assert moved.norm() / wanted.norm() < 1e-5


def test_awq_scales_a_layer_only_where_less_is_lost_than_without() -> None:
    spec = spec_of(4, 2)
    params = params_of(spec)
    seen = {
        f"{NAME}.{linear}.weight": InputStatistics(params[f"{NAME}.{linear}.weight"].shape[1], CPU)
        for linear in LINEARS
    }
    run(spec, params, seen)
    plain = replace(METHOD, format="gptq", search=False)
    awq, gptq = (quantize_layer(spec, params, NAME, seen, how).errors for how in (METHOD, plain))
    for linear in ("o", "down"):  # rows of the others are scaled for these two: their errors weigh anew
        assert awq[f"{NAME}.{linear}.weight"] <= gptq[f"{NAME}.{linear}.weight"]
    assert awq[f"{NAME}.gate_up.weight"] < 0.6 * gptq[f"{NAME}.gate_up.weight"]  # it reads loud inputs
