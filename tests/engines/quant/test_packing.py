from pathlib import Path
from typing import Any

import packed_formats
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from engines.families.config_section import ConfigSection
from engines.families.quantization import read_weight_quant
from engines.quant.method import Method
from engines.quant.packed_layers import packed_layers
from engines.quant.packing import packed_tensors, quantization_config
from engines.quant.rounding import Codes
from engines.weights.checkpoint import Checkpoint

KINDS = ("awq", "gptq", "gptq_act_order", "int8", "fp8")
OUTPUTS, INPUTS, GROUP = 24, 64, 16


def method(kind: str, **changes: Any) -> Method:
    fields: dict[str, Any] = {
        "format": kind.removesuffix("_act_order"),
        "group_size": GROUP if kind in ("awq", "gptq", "gptq_act_order") else None,
        "search": False,
        "symmetric": False,
        "act_order": kind == "gptq_act_order",
        "damping": 0.01,
        "vision": False,
    }
    return Method(**(fields | changes))


def random_codes(kind: str) -> Codes:
    generator = torch.Generator().manual_seed(0)

    def numbers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    if kind in ("int8", "fp8"):
        codes = numbers(-127, 128, OUTPUTS, INPUTS)
        return Codes(
            codes_OI=codes.to(torch.int8) if kind == "int8" else codes.float().to(torch.float8_e4m3fn),
            scales_OG=torch.rand(OUTPUTS, 1, generator=generator),
            zeros_OG=None,
        )
    groups = INPUTS // GROUP
    group = torch.randperm(INPUTS, generator=generator) // GROUP if kind == "gptq_act_order" else None
    return Codes(
        codes_OI=numbers(0, 16, OUTPUTS, INPUTS).to(torch.uint8),
        scales_OG=torch.rand(OUTPUTS, groups, generator=generator).half(),
        zeros_OG=numbers(1, 16, OUTPUTS, groups).to(torch.uint8),
        group_I=group,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_and_read_back_is_the_same_to_the_bit(kind: str, tmp_path: Path) -> None:
    codes = random_codes(kind)
    tensors = {f"m{suffix}": tensor for suffix, tensor in packed_tensors(codes, method(kind)).items()}
    save_file(tensors, tmp_path / "model.safetensors")
    config = {"quantization_config": quantization_config(method(kind), [])}
    quant = read_weight_quant(ConfigSection(config, origin="m"))
    assert quant is not None
    layer = packed_layers(Checkpoint(tmp_path), quant, origin="m")["m"]
    rows = layer.rows(0, OUTPUTS)
    group = rows.codes_RI.shape[1] // rows.scales_RG.shape[1]
    plain = rows.codes_RI.float()
    if rows.zeros_RG is not None:
        plain = plain - rows.zeros_RG.float().repeat_interleave(group, 1)
    plain = plain * rows.scales_RG.float().repeat_interleave(group, 1)
    if layer.perm_I is not None:
        plain = plain[:, torch.argsort(layer.perm_I)]
    assert torch.equal(plain, codes.dequantized())


@pytest.mark.parametrize("kind", KINDS)
def test_the_words_are_those_that_the_public_layout_has(kind: str) -> None:
    wanted, weight = packed_formats.layer(kind, OUTPUTS, INPUTS, group=GROUP)
    if kind in ("int8", "fp8"):
        codes = Codes(codes_OI=wanted[".weight"], scales_OG=wanted[".weight_scale"], zeros_OG=None)
    else:
        group = wanted[".g_idx"].long() if kind == "gptq_act_order" else None
        order = torch.arange(INPUTS) // GROUP if group is None else group
        scales = wanted[".scales"].T
        zeros = packed_formats.zeros(kind, OUTPUTS, INPUTS, group=GROUP)
        steps = weight / scales.float()[:, order] + zeros.float()[:, order]
        codes = Codes(codes_OI=steps.round().to(torch.uint8), scales_OG=scales, zeros_OG=zeros, group_I=group)
    made = packed_tensors(codes, method(kind))
    assert made.keys() >= wanted.keys() - {".g_idx"}
    for suffix, tensor in wanted.items():
        assert made[suffix].dtype == tensor.dtype
        assert torch.equal(made[suffix].view(torch.uint8), tensor.view(torch.uint8)), suffix
