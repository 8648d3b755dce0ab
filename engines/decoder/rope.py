"""Rotary tables: cos and sin for each token of a step, computed on the device without a host sync.

    angle[t, j] = position[t] * inv[t, j],   inv[j] = theta^(-2j/D),   j < D/2

default   as above. linear: inv / factor.
llama3    by wavelength w = 2 pi / inv and trained length L: w < L/high as it is, w > L/low divided by factor,
          between them (1 - s) inv/factor + s inv with s = (L/w - low) / (high - low).
dynamic   beyond max_positions, theta becomes theta * (factor * n/max - (factor - 1))^(D/(D-2)), n the token's
          rope_len.
dynamic_steps  theta becomes theta * (2^(1 + ceil(log2(n/max))) - 1)^(D/(D-2)), n the prompt's tokens.
longrope  inv[j] = 1 / (factors[j] * theta^(2j/D)); the long list where rope_len passes the original length.

D is the head, or the leading part of it that turns.

Legend: T tokens, R rotary pairs of a head.
"""

import math

import torch
from torch import Tensor

from engines.spec import RopeSpec


class Rope:
    """The rotary tables of one decoder, and the numbers that they are computed from."""

    def __init__(self, spec: RopeSpec, head_dim: int, device: torch.device) -> None:
        head_dim = spec.rotary_dim or head_dim
        self.spec = spec
        self.power = head_dim / (head_dim - 2) if head_dim > 2 else 1.0  # of a theta that grows
        self.exponents_R = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
        inv_R = _adjusted(1.0 / spec.theta**self.exponents_R, spec)
        self.inverse_R = inv_R
        self.long_inverse_R = inv_R  # beyond the original length
        self._axes_R = torch.repeat_interleave(torch.tensor(spec.sections, dtype=torch.int64)).to(device)
        if spec.kind == "longrope":
            self.inverse_R = inv_R / torch.tensor(spec.short_factors, device=device)
            self.long_inverse_R = inv_R / torch.tensor(spec.long_factors, device=device)

    def tables(self, positions_T: Tensor, rope_lens_T: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin, fp32 [T, R]; positions [3, T] turn each section of pairs by its own axis."""
        turns_TR = positions_T.to(torch.float32).unsqueeze(-1)
        if positions_T.dim() == 2:
            assert len(self._axes_R), "positions of several axes need rope sections"
            turns_TR = turns_TR[self._axes_R, :, 0].T.contiguous()  # as kernels read it
        angles_TR = turns_TR * self._inverse(rope_lens_T)
        cos_TR, sin_TR = angles_TR.cos(), angles_TR.sin()
        if self.spec.attention_factor != 1.0:
            cos_TR, sin_TR = cos_TR * self.spec.attention_factor, sin_TR * self.spec.attention_factor
        return cos_TR, sin_TR

    def _inverse(self, rope_lens_T: Tensor) -> Tensor:
        spec = self.spec
        if spec.kind == "longrope":
            is_long_T1 = (rope_lens_T > spec.original_max_positions).unsqueeze(1)
            return torch.where(is_long_T1, self.long_inverse_R, self.inverse_R)
        if spec.kind in ("dynamic", "dynamic_steps"):
            stretch_T = rope_lens_T.clamp(min=spec.max_positions).to(torch.float32) / spec.max_positions
            if spec.kind == "dynamic":
                growth_T = spec.factor * stretch_T - (spec.factor - 1)
            else:
                growth_T = 2 ** (1 + stretch_T.log2().ceil()) - 1
            return 1.0 / (spec.theta * growth_T**self.power).unsqueeze(1) ** self.exponents_R
        return self.inverse_R


class StoredRope:
    """Rotary tables from frequencies that a checkpoint brings.

    Positions, angles, cos and sin are rounded to the format of the stored numbers, as upstream rounds them.
    """

    def __init__(self, inverse_R: Tensor) -> None:
        self._inv_R = inverse_R

    def tables(self, positions_T: Tensor, rope_lens_T: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin, fp32 [T, R]."""
        angles_TR = positions_T.to(self._inv_R.dtype).unsqueeze(-1) * self._inv_R
        return angles_TR.cos().float(), angles_TR.sin().float()


def _adjusted(inv_R: Tensor, spec: RopeSpec) -> Tensor:
    if spec.kind == "linear":
        return inv_R / spec.factor
    if spec.kind != "llama3":
        return inv_R
    wavelengths_R = 2 * math.pi / inv_R
    ratio_R = spec.original_max_positions / wavelengths_R
    smooth_R = (ratio_R - spec.low_freq_factor) / (spec.high_freq_factor - spec.low_freq_factor)
    smooth_R = smooth_R.clamp(0.0, 1.0)
    return (1 - smooth_R) * inv_R / spec.factor + smooth_R * inv_R
