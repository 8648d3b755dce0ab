"""Checkpoints of every family whose decoder is packed, against the same weights unpacked."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_tensors import hub_tensors
from packed_formats import config, decoder_linears, quantize_names
from safetensors.torch import save_file
from torch import Tensor

from engines.errors import CheckpointError
from engines.families import read_spec
from engines.ops import Dense, Int4
from engines.pytorch.ops_torch import TorchOps
from engines.quant.int4_tiles import dequantize
from engines.quant.linear_tensors import linear_of
from engines.spec import ModelSpec
from engines.weights import load
from engines.weights.parameters import parameters
from engines.weights.quantized_bytes import is_quantized, parameter_bytes

FIXTURES = Path(__file__).parents[2] / "fixtures"
KINDS = ("awq", "gptq", "gptq_sym", "gptq_act_order", "int8", "fp8")
GROUP = 8
INTERNLM2 = "internvl/internlm2_vit300m"  # grouped wqkv


def spec_of(case: str, quantization: dict[str, Any] | None = None) -> ModelSpec:
    folder = FIXTURES / case
    values = json.loads((folder / "config.json").read_text())
    if quantization is not None:
        values["quantization_config"] = quantization
    return read_spec(values, origin=case, folder=folder)


def fits(spec: ModelSpec) -> bool:
    names = decoder_linears(spec)
    return all(
        rows % 8 == 0 and cols % GROUP == 0 for rows, cols in (hub_tensors(spec)[name] for name in names)
    )


CASES = sorted(
    case
    for path in FIXTURES.glob("**/golden.safetensors")
    if fits(spec_of(case := str(path.parent.relative_to(FIXTURES))))
)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Tensor]]:
    """Return a function that loads tensors as a checkpoint and returns the network's parameters."""
    monkeypatch.setattr(load, "Vlm", lambda spec, tensors, **_: tensors)

    def run(spec: ModelSpec, tensors: dict[str, Tensor], **how: int) -> dict[str, Tensor]:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "model.safetensors"
        )
        plain = replace(spec, companions=())
        cpu = torch.device("cpu")
        found: Any = load.load_network(
            tmp_path, plain, ops=TorchOps(), device=cpu, dtype=torch.float32, **how
        )
        parameters: dict[str, Tensor] = found
        return parameters

    return run


def matrix(params: dict[str, Tensor], name: str) -> Tensor:
    """Return a layer's weight in fp32, columns in their own order."""
    weight = linear_of(params, name)
    if isinstance(weight, Dense):
        return weight.weight_OI
    if not isinstance(weight, Int4):
        return weight.weight_OI.float() * weight.scale_O[:, None]
    plain_OI = dequantize(weight, torch.float32)
    return plain_OI if weight.perm_I is None else plain_OI[:, torch.argsort(weight.perm_I)]


def assert_equal(params: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    for name, tensor in wanted.items():
        layer = name.removesuffix(".weight")
        assert torch.equal(matrix(params, layer) if name.endswith(".weight") else params[name], tensor), name


def test_every_kind_of_decoder_is_among_the_cases() -> None:
    specs = [spec_of(case) for case in CASES]
    assert {spec.decoder_names for spec in specs} >= {"internlm2", "llama", "phi3", "qwen2"}
    assert len({spec.family for spec in specs}) >= 10


@pytest.mark.parametrize("case", CASES)
def test_a_packed_decoder_of_any_family_is_the_one_it_was_packed_from(
    case: str, loaded: Callable[..., dict[str, Tensor]]
) -> None:
    spec = spec_of(case)
    packed, plain = quantize_names(hub_tensors(spec), decoder_linears(spec), "awq", group=GROUP)
    wanted = loaded(spec, plain)
    params = loaded(spec_of(case, config("awq", group=GROUP)), packed)
    assert_equal(params, wanted)
    quant = spec_of(case, config("awq", group=GROUP)).quantization
    assert quant is not None
    planned = [parameter for parameter in parameters(spec) if is_quantized(parameter, spec, quant, tp=1)]
    assert sum(name.endswith(".tiles") for name in params) == len(planned)


@pytest.mark.parametrize("group", [8, 16, -1])
@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_is_read_to_the_bit(
    kind: str, group: int, loaded: Callable[..., dict[str, Tensor]]
) -> None:
    spec = spec_of(INTERNLM2)
    packed, plain = quantize_names(hub_tensors(spec), decoder_linears(spec), kind, group=group)
    wanted = loaded(spec, plain)
    assert_equal(loaded(spec_of(INTERNLM2, config(kind, group=group)), packed), wanted)


@pytest.mark.parametrize("kind", ["awq", "gptq", "int8"])
def test_ranks_hold_their_share_of_packed_layers(kind: str, loaded: Callable[..., dict[str, Tensor]]) -> None:
    spec = spec_of(INTERNLM2)
    packed, plain = quantize_names(hub_tensors(spec), decoder_linears(spec), kind, group=GROUP)
    for rank in range(2):
        wanted = loaded(spec, plain, rank=rank, tp=2)
        assert_equal(loaded(spec_of(INTERNLM2, config(kind, group=GROUP)), packed, rank=rank, tp=2), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_counts_the_bytes_that_are_loaded(
    kind: str, loaded: Callable[..., dict[str, Tensor]]
) -> None:
    spec = spec_of(INTERNLM2, config(kind, group=GROUP))
    packed, _ = quantize_names(hub_tensors(spec), decoder_linears(spec), kind, group=GROUP)
    quant = spec.quantization
    assert quant is not None
    if not quant.is_4_bit:  # a tower in 8 bits is planned where the config does not keep it
        quant = replace(quant, kept=("vision_model", "mlp1"))
    params = loaded(spec, packed)
    held = sum(tensor.nbytes for name, tensor in params.items() if not name.endswith(".group_size"))
    assert held == sum(parameter_bytes(p, spec, quant, dtype_bytes=4, tp=1) for p in parameters(spec))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"group_size": 16}, "must be [4, 16]"),
        ({"group_size": 24}, "groups of 24 do not divide 64 inputs"),
        ({"quant_method": "gptq"}, "not packed as its config says"),
        ({"bits": 8}, "must be 4: other widths are not read"),
        ({"quant_method": "marlin"}, "must be one of awq, gptq, compressed-tensors, fp8, smooth_quant"),
        ({"version": "gemv"}, "must be one of GEMM, gemm"),
        ({"zero_point": False}, "AWQ files without zero points are not read"),
        ({"group_size": 0}, "must be a number of inputs from 1 on, or -1"),
    ],
)
def test_packing_that_is_not_what_the_config_says_is_named(
    changes: dict[str, Any], words: str, loaded: Callable[..., dict[str, Tensor]]
) -> None:
    spec = spec_of(INTERNLM2)
    packed, _ = quantize_names(hub_tensors(spec), decoder_linears(spec), "awq", group=GROUP)
    with pytest.raises(CheckpointError) as caught:
        loaded(spec_of(INTERNLM2, config("awq", group=GROUP) | changes), packed)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "suffix", "change", "words"),
    [
        ("awq", ".qweight", torch.Tensor.flatten, "is [1024], must be a matrix"),
        ("awq", ".qzeros", torch.Tensor.long, "is torch.int64, must be torch.int32"),
        ("gptq", ".qweight", torch.Tensor.half, "is torch.float16, must be torch.int32"),
        ("gptq", ".qweight", lambda words: words[None], "is [1, 8, 128], must be a matrix"),
        ("int8", ".weight", lambda codes: codes[:, :, None, None], "is [128, 64, 1, 1], must be a matrix"),
    ],
)
def test_packed_tensors_of_another_rank_or_type_are_named(
    kind: str,
    suffix: str,
    change: Callable[[Tensor], Tensor],
    words: str,
    loaded: Callable[..., dict[str, Tensor]],
) -> None:
    spec = spec_of(INTERNLM2, config(kind, group=GROUP))
    packed, _ = quantize_names(hub_tensors(spec), decoder_linears(spec), kind, group=GROUP)
    name = "language_model.model.layers.0.attention.wqkv" + suffix
    packed[name] = change(packed[name])
    with pytest.raises(CheckpointError) as caught:
        loaded(spec, packed)
    assert f"`{name}` {words}" in str(caught.value)


def test_a_config_without_packed_tensors_and_packed_tensors_without_a_config_are_refused(
    loaded: Callable[..., dict[str, Tensor]],
) -> None:
    spec, quantized = spec_of(INTERNLM2), spec_of(INTERNLM2, config("awq", group=GROUP))
    packed, plain = quantize_names(hub_tensors(spec), decoder_linears(spec), "awq", group=GROUP)
    with pytest.raises(CheckpointError, match="no quantized layer in"):
        loaded(quantized, plain)
    with pytest.raises(CheckpointError, match="no file in it says how"):
        loaded(spec, packed)


def test_layers_that_run_as_one_must_be_packed_alike(loaded: Callable[..., dict[str, Tensor]]) -> None:
    spec = spec_of(INTERNLM2, config("gptq_act_order", group=GROUP))
    names = decoder_linears(spec)
    half = {name for name in names if not name.endswith("feed_forward.w3.weight")}
    packed, _ = quantize_names(hub_tensors(spec), half, "gptq_act_order", group=GROUP)
    with pytest.raises(CheckpointError, match=r"w3\.weight` is not quantized and .*w1\.weight` is"):
        loaded(spec, packed)
    packed, _ = quantize_names(hub_tensors(spec), names, "gptq_act_order", group=GROUP)
    name = next(name for name in packed if name.endswith("w1.g_idx"))
    packed[name] = packed[name].flip(0)
    with pytest.raises(CheckpointError, match="order their inputs differently"):
        loaded(spec, packed)


def test_a_quantized_head_is_refused(loaded: Callable[..., dict[str, Tensor]]) -> None:
    spec = spec_of(INTERNLM2, config("int8", group=GROUP))
    names = {*decoder_linears(spec), "language_model.output.weight"}
    packed, _ = quantize_names(hub_tensors(spec), names, "int8", group=GROUP)
    with pytest.raises(CheckpointError, match=r"output\.weight` is quantized"):
        loaded(spec, packed)
