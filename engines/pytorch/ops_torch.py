"""The op table in plain torch: the truth that every kernel is held to, the same code on CPU and GPU.

Contracts stand in `engines/ops.py`. Statistics of norms and softmax are fp32. Nothing here loops over heads,
pages or sequences, and nothing syncs with the host.

Legend: as in `engines/ops.py`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.decoder.rope import Rope
from engines.ops import (
    AxisPass,
    BetweenAttentions,
    BytePixels,
    Gelu,
    KvLayer,
    PatchLayout,
    RepeatedRows,
    Weight,
)
from engines.parallel import TpGroup
from engines.pytorch.attention_grid import attention_grid
from engines.pytorch.attention_paged import attention_paged
from engines.pytorch.conv2d import conv2d
from engines.pytorch.cut_tiles import cut_tiles
from engines.pytorch.joined_cells import joined_cells
from engines.pytorch.kv_rows import quantize_rows
from engines.pytorch.linear import linear
from engines.pytorch.patch_rows import patch_rows
from engines.steps.step import AttentionBatch


class TorchOps:
    """Implements `engines.ops.Ops`; holds nothing."""

    def embed(self, table_VH: Tensor, ids_T: Tensor) -> Tensor:
        """Return rows of the table."""
        return F.embedding(ids_T, table_VH)

    def rms_norm(self, x_TH: Tensor, weight_H: Tensor, eps: float) -> Tensor:
        """Return x * rsqrt(mean(x^2) + eps) * weight."""
        x32_TH = x_TH.float()
        inverse_T1 = torch.rsqrt(x32_TH.square().mean(-1, keepdim=True) + eps)
        return (x32_TH * inverse_T1).to(x_TH.dtype) * weight_H

    def add_rms_norm(
        self, x_TH: Tensor, residual_TH: Tensor, weight_H: Tensor, eps: float, group: TpGroup | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (rms_norm(x + residual), x + residual)."""
        sum_TH = (x_TH if group is None else group.all_reduce(x_TH)) + residual_TH
        return self.rms_norm(sum_TH, weight_H, eps), sum_TH

    def add_rms_norm_linear(
        self,
        x_TH: Tensor,
        residual_TH: Tensor,
        norm_H: Tensor,
        eps: float,
        weight: Weight,
        group: TpGroup | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (linear(rms_norm(x + residual)), x + residual)."""
        normed_TH, sum_TH = self.add_rms_norm(x_TH, residual_TH, norm_H, eps, group)
        return self.linear(normed_TH, weight), sum_TH

    def layer_norm(self, x_TH: Tensor, weight_H: Tensor, bias_H: Tensor, eps: float) -> Tensor:
        """Return the layer norm over the last axis."""
        return F.layer_norm(x_TH, weight_H.shape, weight_H, bias_H, eps)

    def layer_norm_cells(
        self, x_ILH: Tensor, weight_W: Tensor, bias_W: Tensor, eps: float, *, factor: int, by_columns: bool
    ) -> Tensor:
        """Return the layer norm of joined neighbours in square maps."""
        return self.layer_norm(joined_cells(x_ILH, factor, by_columns=by_columns), weight_W, bias_W, eps)

    def linear(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Return x @ W.T + b."""
        return linear(x_TI, weight)

    def linear_tower(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Return x @ W.T + b."""
        return linear(x_TI, weight)

    def silu_mul(self, gate_up_T2F: Tensor) -> Tensor:
        """Return silu(first half) * second half."""
        gate_TF, up_TF = gate_up_T2F.chunk(2, dim=-1)
        return F.silu(gate_TF) * up_TF

    def silu_mul_linear(self, gate_up_T2F: Tensor, weight: Weight) -> Tensor:
        """Return linear(silu_mul(gate_up), weight)."""
        return self.linear(self.silu_mul(gate_up_T2F), weight)

    def add_rms_norm_ffn(
        self,
        x_TH: Tensor,
        residual_TH: Tensor,
        norm_H: Tensor,
        eps: float,
        gate_up: Weight,
        down: Weight,
        group: TpGroup | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (linear(silu_mul(linear(rms_norm(x + residual), gate_up)), down), x + residual)."""
        gate_up_T2F, sum_TH = self.add_rms_norm_linear(x_TH, residual_TH, norm_H, eps, gate_up, group)
        return self.silu_mul_linear(gate_up_T2F, down), sum_TH

    def layer_products(
        self, attended_TA: Tensor, residual_TH: Tensor, between: BetweenAttentions
    ) -> tuple[Tensor, Tensor]:
        """Return (qkv of the next layer, the residual that its norm saw)."""
        x_TH, norm_H = self.linear(attended_TA, between.o), between.ffn_norm_H
        x_TH, residual_TH = self.add_rms_norm_ffn(
            x_TH, residual_TH, norm_H, between.eps, between.gate_up, between.down
        )
        return self.add_rms_norm_linear(x_TH, residual_TH, between.norm_H, between.eps, between.qkv)

    def gelu(self, x_TF: Tensor) -> Tensor:
        """Return the exact GELU."""
        return F.gelu(x_TF)

    def gelu_tanh(self, x_TF: Tensor) -> Tensor:
        """Return the GELU's tanh form."""
        return F.gelu(x_TF, approximate="tanh")

    def quick_gelu(self, x_TF: Tensor) -> Tensor:
        """Return x * sigmoid(1.702 x)."""
        return x_TF * torch.sigmoid(1.702 * x_TF)

    def linear_gelu(self, x_TI: Tensor, weight: Weight, form: Gelu) -> Tensor:
        """Return the op `form` of linear(x, weight)."""
        op = {"gelu": self.gelu, "gelu_tanh": self.gelu_tanh, "quick_gelu": self.quick_gelu}[form]
        return op(self.linear(x_TI, weight))

    def linear_add(
        self,
        x_TI: Tensor,
        weight: Weight,
        residual_TO: Tensor | RepeatedRows,
        *,
        scale_O: Tensor | None = None,
    ) -> Tensor:
        """Return residual + linear(x, weight) * scale."""
        y_TO = self.linear(x_TI, weight)
        if isinstance(residual_TO, RepeatedRows):
            residual_TO = residual_TO.table_RO[: residual_TO.length]
        return residual_TO + y_TO if scale_O is None else torch.addcmul(residual_TO, y_TO, scale_O)

    def rope_tables(self, rope: Rope, positions: Tensor, rope_lens_T: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin of the angles of all tokens."""
        return rope.tables(positions, rope_lens_T)

    def rope(self, q_TND: Tensor, k_TKD: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate half-split pairs of q and k, in fp32."""
        x_TXD = torch.cat([q_TND, k_TKD], dim=1)
        num_pairs, num_heads = cos_TR.shape[-1], q_TND.shape[1]
        cos_T1R, sin_T1R = cos_TR.unsqueeze(1), sin_TR.unsqueeze(1)
        x1, x2 = x_TXD[..., :num_pairs], x_TXD[..., num_pairs : 2 * num_pairs]
        passed = x_TXD[..., 2 * num_pairs :]
        first, second = x1 * cos_T1R - x2 * sin_T1R, x2 * cos_T1R + x1 * sin_T1R
        rotated_TXD = torch.cat([first, second, passed], dim=-1).to(x_TXD.dtype)
        return rotated_TXD[:, :num_heads], rotated_TXD[:, num_heads:]

    def store_kv(self, k_TKD: Tensor, v_TKD: Tensor, layer: KvLayer, slots_T: Tensor) -> None:
        """Write k and v into their slots."""
        page_T, offset_T = slots_T // layer.page_tokens, slots_T % layer.page_tokens
        for x_TKD, (rows_PKTD, scales_PKTS) in zip((k_TKD, v_TKD), layer.pages, strict=True):
            if scales_PKTS is not None:
                x_TKD, scales_PKTS[page_T, :, offset_T] = quantize_rows(x_TKD, layer.format)
            rows_PKTD[page_T, :, offset_T] = x_TKD

    def rope_store_kv(
        self,
        q_TND: Tensor,
        k_TKD: Tensor,
        v_TKD: Tensor,
        cos_TR: Tensor,
        sin_TR: Tensor,
        layer: KvLayer,
        slots_T: Tensor,
    ) -> Tensor:
        """Return q rotated; write k rotated and v."""
        q_TND, k_TKD = self.rope(q_TND, k_TKD, cos_TR, sin_TR)
        self.store_kv(k_TKD, v_TKD, layer, slots_T)
        return q_TND

    def attention_paged(
        self, q_TND: Tensor, layer: KvLayer, batch: AttentionBatch, *, scale: float, window: int | None
    ) -> Tensor:
        """Attend the decoding sequences, then the chunks."""
        return attention_paged(q_TND, layer, batch, scale=scale, window=window)

    def rope_store_attend(
        self,
        q_TND: Tensor,
        k_TKD: Tensor,
        v_TKD: Tensor,
        cos_TR: Tensor,
        sin_TR: Tensor,
        layer: KvLayer,
        batch: AttentionBatch,
        *,
        scale: float,
        window: int | None,
    ) -> Tensor:
        """Rotate and write, then attend."""
        q_TND = self.rope_store_kv(q_TND, k_TKD, v_TKD, cos_TR, sin_TR, layer, batch.slots_T)
        return self.attention_paged(q_TND, layer, batch, scale=scale, window=window)

    def attention_full(self, q_ILND: Tensor, k_ILND: Tensor, v_ILND: Tensor, *, scale: float) -> Tensor:
        """Return unmasked attention inside each image."""
        q, k, v = (x.transpose(1, 2) for x in (q_ILND, k_ILND, v_ILND))
        return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)

    def attention_grid(
        self,
        q_ILND: Tensor,
        k_ILND: Tensor,
        v_ILND: Tensor,
        down_ILNY: Tensor,
        across_ILNX: Tensor,
        *,
        scale: float,
    ) -> Tensor:
        """Return attention over a grid with relative positions."""
        return attention_grid(q_ILND, k_ILND, v_ILND, down_ILNY, across_ILNX, scale=scale)

    def conv2d(
        self,
        x_IyxC: Tensor,
        weight_OCkk: Tensor,
        bias_O: Tensor | None,
        *,
        stride: int,
        padding: int,
        groups: int = 1,
    ) -> Tensor:
        """Return the convolution of maps, channels last."""
        return conv2d(x_IyxC, weight_OCkk, bias_O, stride=stride, padding=padding, groups=groups)

    def patch_rows(self, pixels: Tensor | BytePixels, layout: PatchLayout) -> Tensor:
        """Return the rows of a tower's first product."""
        return patch_rows(pixels, layout)

    def cut_tiles(self, picture_YX4: Tensor, passes: Sequence[AxisPass], out_ISSC: Tensor) -> None:
        """Resize axis after axis and write tiles."""
        cut_tiles(picture_YX4, passes, out_ISSC)
