"""Quantized layers written by the letter of the public layouts, word by word, without our own code.

Sources: AutoAWQ's WQLinear_GEMM, AutoGPTQ's QuantLinear, compressed-tensors' two 8-bit formats.
"""

import random
import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from engines.families import rules_for
from engines.spec import ModelSpec

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # nibble n of a word is column order[n]


def layer(
    kind: str, outputs: int, inputs: int, *, group: int, seed: int = 0
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the tensors of a random layer by suffix, and the weight [O, I] that they stand for, in fp32."""
    if kind in ("int8", "fp8"):
        return _eight_bits(kind, outputs, inputs, seed=seed)
    size = inputs if group == -1 else group
    groups = inputs // size
    order = list(range(inputs))
    if kind == "gptq_act_order":
        random.Random(size).shuffle(order)  # the same for layers that are fused
    group_of = [0] * inputs
    for position, i in enumerate(order):
        group_of[i] = position // size
    codes = _drawn_codes(outputs, inputs, seed=seed)
    zeros = _drawn_zeros(kind, outputs, groups, seed=seed)
    scales = (
        torch.rand(groups, outputs, generator=torch.Generator().manual_seed(seed)).add(0.1).mul(0.02).half()
    )
    weight = torch.tensor(codes) - torch.tensor(zeros)[group_of].T
    weight = weight.float() * scales[group_of].T.float()
    columns = [[codes[o][i] for o in range(outputs)] for i in range(inputs)]  # [I][O]
    if kind == "awq":
        packed = {
            ".qweight": _words([_awq_row(row) for row in columns]),
            ".qzeros": _words([_awq_row(row) for row in zeros]),
        }
    else:
        down = [
            [_word([columns[8 * w + n][o] for n in range(8)]) for o in range(outputs)]
            for w in range(inputs // 8)
        ]
        packed = {
            ".qweight": _words(down),
            ".qzeros": _words(
                [[_word([z - 1 for z in row[w : w + 8]]) for w in range(0, outputs, 8)] for row in zeros]
            ),
            ".g_idx": torch.tensor(group_of, dtype=torch.int32),
        }
    return packed | {".scales": scales}, weight


def zeros(kind: str, outputs: int, inputs: int, *, group: int, seed: int = 0) -> Tensor:
    """Return the zero points [O, G] of such a layer."""
    groups = 1 if group == -1 else inputs // group
    return torch.tensor(_drawn_zeros(kind, outputs, groups, seed=seed), dtype=torch.uint8).T


def _drawn_codes(outputs: int, inputs: int, *, seed: int) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(16) for _ in range(inputs)] for _ in range(outputs)]


def _drawn_zeros(kind: str, outputs: int, groups: int, *, seed: int) -> list[list[int]]:
    draw, low = random.Random(seed + 1), 8 if kind == "gptq_sym" else 1
    high = 8 if kind == "gptq_sym" else 15
    return [[draw.randint(low, high) for _ in range(outputs)] for _ in range(groups)]


def config(kind: str, *, group: int) -> dict[str, Any]:
    """Return the quantization_config of such layers."""
    if kind == "awq":
        return {"quant_method": "awq", "version": "gemm", "bits": 4, "group_size": group, "zero_point": True}
    if kind.startswith("gptq"):
        return {
            "quant_method": "gptq",
            "bits": 4,
            "group_size": group,
            "desc_act": kind == "gptq_act_order",
            "sym": kind == "gptq_sym",
        }
    weights = {
        "num_bits": 8,
        "type": "int" if kind == "int8" else "float",
        "strategy": "channel",
        "symmetric": True,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized" if kind == "int8" else "float-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head"],
    }


def quantize_names(
    shapes: Mapping[str, tuple[int, ...]], linears: Collection[str], kind: str, *, group: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return tensors of a checkpoint with some of its weights packed, and the same unquantized."""
    packed: dict[str, Tensor] = {}
    plain: dict[str, Tensor] = {}
    for seed, (name, shape) in enumerate(shapes.items()):
        if name in linears:
            outputs, inputs = shape
            tensors, plain[name] = layer(kind, outputs, inputs, group=group, seed=seed)
            module = name.removesuffix(".weight")
            packed |= {module + suffix: tensor for suffix, tensor in tensors.items()}
        else:
            generator = torch.Generator().manual_seed(seed)
            packed[name] = plain[name] = torch.randn(shape, generator=generator) * 0.2
    return packed, plain


def decoder_linears(spec: ModelSpec) -> set[str]:
    """Return the checkpoint's names of the linear layers inside the decoder."""
    inner = re.compile(r"decoder\.layers\.\{i\}\.(vision_)?(qkv|o|gate_up|down)\.weight")
    return {
        rule.source.replace("{i}", str(i))
        for rule in rules_for(spec).rules
        if inner.fullmatch(rule.target)
        for i in range(spec.decoder.num_layers)
    }


def _eight_bits(kind: str, outputs: int, inputs: int, *, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(outputs, 1, generator=generator) * 0.002 + 1e-4
    codes = torch.randint(-127, 128, (outputs, inputs), generator=generator)
    weight = codes.to(torch.int8) if kind == "int8" else codes.float().to(torch.float8_e4m3fn)
    return {".weight": weight, ".weight_scale": scale}, weight.float() * scale


def _awq_row(values: list[int]) -> list[int]:
    return [_word([values[w + column] for column in AWQ_ORDER]) for w in range(0, len(values), 8)]


def _word(nibbles: list[int]) -> int:
    word = sum((value & 15) << 4 * n for n, value in enumerate(nibbles))
    return word - (1 << 32) if word >= 1 << 31 else word


def _words(rows: list[list[int]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64).to(torch.int32)
