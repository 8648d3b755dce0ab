"""Random layers of every kind of weight, as they lie between two attentions."""

import torch

from engines.ops import BetweenAttentions, Dense, Fp8, Int8

BF16 = torch.bfloat16
Plain = Dense | Fp8 | Int8


def random_between(
    kind: str,
    *,
    hidden: int,
    attended: int,
    ffn: int,
    qkv: int,
    bias: bool = False,
    dtype: torch.dtype = BF16,
    device: torch.device | str = "cpu",
) -> BetweenAttentions:
    """Return layers of kind `dense`, `fp8` or `int8`; with `bias` qkv has one."""

    def layer(outputs: int, inputs: int, *, bias: bool = False) -> Plain:
        return _layer(kind, outputs, inputs, bias=bias, dtype=dtype, device=device)

    def norm() -> torch.Tensor:
        return (torch.rand(hidden, device=device) + 0.5).to(dtype)

    return BetweenAttentions(
        o=layer(hidden, attended),
        ffn_norm_H=norm(),
        gate_up=layer(2 * ffn, hidden),
        down=layer(hidden, ffn),
        norm_H=norm(),
        qkv=layer(qkv, hidden, bias=bias),
        eps=1e-5,
    )


def _layer(
    kind: str, outputs: int, inputs: int, *, bias: bool, dtype: torch.dtype, device: torch.device | str
) -> Plain:
    weight_OI = torch.randn(outputs, inputs, device=device) * inputs**-0.5
    bias_O = torch.randn(outputs, dtype=dtype, device=device) if bias else None
    if kind == "dense":
        return Dense(weight_OI=weight_OI.to(dtype), bias_O=bias_O)
    scale_O = weight_OI.abs().amax(dim=1) / (448 if kind == "fp8" else 127)
    codes_OI = weight_OI / scale_O[:, None]
    if kind == "fp8":
        return Fp8(weight_OI=codes_OI.to(torch.float8_e4m3fn), scale_O=scale_O, bias_O=bias_O)
    return Int8(weight_OI=codes_OI.round().to(torch.int8), scale_O=scale_O, bias_O=bias_O)
