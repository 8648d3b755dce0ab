"""Codes in the layouts that others read: `engines/quant/packed_layers.py` says what each holds.

Legend: O outputs, I inputs, G groups.
"""

from typing import Any

import torch
from torch import Tensor

from engines.memory.kv_layer import NIBBLE_ORDER
from engines.quant.method import Method
from engines.quant.rounding import Codes


def packed_tensors(codes: Codes, method: Method) -> dict[str, Tensor]:
    """Return the tensors of one layer by suffix."""
    if codes.zeros_OG is None:
        return {".weight": codes.codes_OI, ".weight_scale": codes.scales_OG}
    scales_GO = codes.scales_OG.T.contiguous()
    if method.format == "awq":
        return {
            ".qweight": _words(codes.codes_OI.T, NIBBLE_ORDER),
            ".qzeros": _words(codes.zeros_OG.T, NIBBLE_ORDER),
            ".scales": scales_GO,
        }
    inputs, groups = codes.codes_OI.shape[1], codes.scales_OG.shape[1]
    group_I = torch.arange(inputs) // (inputs // groups) if codes.group_I is None else codes.group_I.cpu()
    return {
        ".qweight": _words(codes.codes_OI, range(8)).T.contiguous(),
        ".qzeros": _words(codes.zeros_OG.T - 1, range(8)),
        ".scales": scales_GO,
        ".g_idx": group_I.to(torch.int32),
    }


def quantization_config(method: Method, kept: list[str]) -> dict[str, Any]:
    """Return what config.json says of such a checkpoint; `kept` are the modules that were left alone."""
    group_size = method.group_size or -1
    if method.format == "awq":
        return {
            "quant_method": "awq",
            "version": "gemm",
            "bits": 4,
            "group_size": group_size,
            "zero_point": True,
            "modules_to_not_convert": kept,
        }
    if method.format == "gptq":
        return {
            "quant_method": "gptq",
            "bits": 4,
            "group_size": group_size,
            "desc_act": method.act_order,
            "sym": method.symmetric,
            "checkpoint_format": "gptq",
            "modules_to_not_convert": kept,
        }
    kind = "int" if method.format == "int8" else "float"
    weights = {"num_bits": 8, "type": kind, "strategy": "channel", "symmetric": True, "dynamic": False}
    inputs = {"num_bits": 8, "type": kind, "strategy": "token", "symmetric": True, "dynamic": True}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "format": f"{kind}-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": kept,
    }


def _words(codes: Tensor, order: tuple[int, ...] | range) -> Tensor:
    """Return int32 words of 8 codes along the last axis; nibble n of a word is code order[n]."""
    parts = codes.reshape(*codes.shape[:-1], -1, 8)[..., list(order)].to(torch.int64)
    words = (parts << torch.arange(0, 32, 4, device=codes.device)).sum(-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32).contiguous()
