"""The op table of `engine=turbomind`: kernels of `kernels/` on one GPU; most large products are cuBLASLt's.

A method calls a launcher of `engines/turbomind/ops/`, or asks several in turn whether they take the operands;
what none takes is ops apart, or torch's. Contracts and the legend stand in `engines/ops.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
from engines.pytorch.conv2d import conv2d
from engines.pytorch.patch_rows import patch_rows as torch_patch_rows
from engines.steps.step import AttentionBatch
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import (
    activation,
    linear,
    linear_after,
    linear_codes,
    linear_gated,
    norm,
    patch_rows,
    rope,
)
from engines.turbomind.ops.attention_full import attention_full
from engines.turbomind.ops.attention_paged import attention_paged, rope_store_attend
from engines.turbomind.ops.cut_tiles import cut_tiles
from engines.turbomind.ops.hopper_shape import runs_on
from engines.turbomind.ops.layer_norm import layer_norm
from engines.turbomind.ops.layer_products import layer_products
from engines.turbomind.ops.norm_of_sum import add_rms_norm
from engines.turbomind.ops.rope_tables import rope_tables


@dataclass(frozen=True, slots=True)
class TurbomindOps:
    """Implements `engines.ops.Ops`. Launches go to torch's current stream, all from one thread."""

    gpu: Gpu

    def embed(self, table_VH: Tensor, ids_T: Tensor) -> Tensor:
        """Return rows of the table."""
        return F.embedding(ids_T, table_VH)

    def rms_norm(self, x_TH: Tensor, weight_H: Tensor, eps: float) -> Tensor:
        """Return x * rsqrt(mean(x^2) + eps) * weight."""
        return norm.rms_norm(self.gpu, x_TH, weight_H, eps)

    def add_rms_norm(
        self, x_TH: Tensor, residual_TH: Tensor, weight_H: Tensor, eps: float, group: TpGroup | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (rms_norm(x + residual), x + residual)."""
        return add_rms_norm(self.gpu, x_TH, residual_TH, weight_H, eps, group)

    def add_rms_norm_linear(
        self,
        x_TH: Tensor,
        residual_TH: Tensor,
        norm_H: Tensor,
        eps: float,
        weight: Weight,
        group: TpGroup | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (linear(rms_norm(x + residual)), x + residual).

        8-bit codes are made in the kernel that norms.
        """
        done = linear_codes.add_rms_norm_linear(self.gpu, x_TH, residual_TH, norm_H, eps, weight, group)
        if done is not None:
            return done
        normed_TH, sum_TH = self.add_rms_norm(x_TH, residual_TH, norm_H, eps, group)
        return self.linear(normed_TH, weight), sum_TH

    def layer_norm(self, x_TH: Tensor, weight_H: Tensor, bias_H: Tensor, eps: float) -> Tensor:
        """Return the layer norm over the last axis."""
        return layer_norm(self.gpu, x_TH, weight_H, bias_H, eps)

    def layer_norm_cells(
        self, x_ILH: Tensor, weight_W: Tensor, bias_W: Tensor, eps: float, *, factor: int, by_columns: bool
    ) -> Tensor:
        """Return the layer norm of joined neighbours, read where they lie."""
        return norm.layer_norm_cells(
            self.gpu, x_ILH, weight_W, bias_W, eps, factor=factor, by_columns=by_columns
        )

    def linear(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Return x @ W.T + b."""
        return linear.linear(self.gpu, x_TI, weight)

    def linear_tower(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Return x @ W.T + b; tiles that are all done at once have a kernel of their own."""
        return linear_after.linear_tower(self.gpu, x_TI, weight)

    def silu_mul(self, gate_up_T2F: Tensor) -> Tensor:
        """Return silu(first half) * second half."""
        return activation.gated(self.gpu, gate_up_T2F)

    def silu_mul_linear(self, gate_up_T2F: Tensor, weight: Weight) -> Tensor:
        """Return linear(silu_mul(gate_up), weight); 8-bit codes are made in the kernel that gates."""
        y_TO = linear_codes.silu_mul_linear(self.gpu, gate_up_T2F, weight)
        return self.linear(self.silu_mul(gate_up_T2F), weight) if y_TO is None else y_TO

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
        """Return (down(silu_mul(gate_up(rms_norm(x + residual)))), x + residual).

        Few rows are gated in the kernel that multiplies.
        """
        done = linear_gated.add_rms_norm_gated(self.gpu, x_TH, residual_TH, norm_H, eps, gate_up, group)
        if done is not None:
            gated_TF, sum_TH = done
            return self.linear(gated_TF, down), sum_TH
        gate_up_T2F, sum_TH = self.add_rms_norm_linear(x_TH, residual_TH, norm_H, eps, gate_up, group)
        return self.silu_mul_linear(gate_up_T2F, down), sum_TH

    def layer_products(
        self, attended_TA: Tensor, residual_TH: Tensor, between: BetweenAttentions
    ) -> tuple[Tensor, Tensor]:
        """Return (qkv of the next layer, the residual that its norm saw)."""
        together = layer_products(self.gpu, attended_TA, residual_TH, between)
        if together is not None:
            return together
        x_TH, residual_TH = self.add_rms_norm_ffn(
            self.linear(attended_TA, between.o),
            residual_TH,
            between.ffn_norm_H,
            between.eps,
            between.gate_up,
            between.down,
        )
        return self.add_rms_norm_linear(x_TH, residual_TH, between.norm_H, between.eps, between.qkv)

    def gelu(self, x_TF: Tensor) -> Tensor:
        """Return the exact GELU."""
        return activation.gelu(self.gpu, x_TF)

    def gelu_tanh(self, x_TF: Tensor) -> Tensor:
        """Return the GELU's tanh form; torch has it in one kernel."""
        return F.gelu(x_TF, approximate="tanh")

    def quick_gelu(self, x_TF: Tensor) -> Tensor:
        """Return x * sigmoid(1.702 x)."""
        return x_TF * torch.sigmoid(1.702 * x_TF)

    def linear_gelu(self, x_TI: Tensor, weight: Weight, form: Gelu) -> Tensor:
        """Return the op `form` of linear(x, weight); many rows go through both in one kernel."""
        done = linear_after.linear_after(self.gpu, x_TI, weight, form)
        if done is not None:
            return done
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
        """Return residual + linear(x, weight) * scale; many rows go through all of it in one kernel."""
        done = linear_after.linear_after(
            self.gpu, x_TI, weight, "add", residual_TO=residual_TO, scale_O=scale_O
        )
        if done is not None:
            return done
        return activation.added(self.gpu, residual_TO, self.linear(x_TI, weight), scale_O)

    def rope_tables(self, rope: Rope, positions: Tensor, rope_lens_T: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin of the angles of all tokens; positions of several axes are torch's."""
        if positions.dim() > 1:
            return rope.tables(positions, rope_lens_T)
        return rope_tables(self.gpu, rope, positions, rope_lens_T)

    def rope(self, q_TND: Tensor, k_TKD: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate half-split pairs of q and k."""
        return rope.rope(self.gpu, q_TND, k_TKD, cos_TR, sin_TR)

    def store_kv(self, k_TKD: Tensor, v_TKD: Tensor, layer: KvLayer, slots_T: Tensor) -> None:
        """Write k and v into their slots."""
        rope.store_kv(self.gpu, k_TKD, v_TKD, layer, slots_T)

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
        """Rotate q and k, write k and v into their slots, return q."""
        return rope.rope_store_kv(self.gpu, q_TND, k_TKD, v_TKD, cos_TR, sin_TR, layer, slots_T)

    def attention_paged(
        self, q_TND: Tensor, layer: KvLayer, batch: AttentionBatch, *, scale: float, window: int | None
    ) -> Tensor:
        """Attend the decoding sequences with one kernel, the chunks with another, into one result."""
        return attention_paged(self.gpu, q_TND, layer, batch, scale=scale, window=window)

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
        """Rotate, write and attend in one kernel where every sequence decodes, else one after the other."""
        qkv = (q_TND, k_TKD, v_TKD)
        return rope_store_attend(self.gpu, *qkv, cos_TR, sin_TR, layer, batch, scale=scale, window=window)

    def attention_full(self, q_ILND: Tensor, k_ILND: Tensor, v_ILND: Tensor, *, scale: float) -> Tensor:
        """Return unmasked attention inside each image.

        Before Hopper, heads of 72 and 104 elements (SigLIP-so400m, ViT-bigG) are torch's, since the kernel's
        tiles are 16 wide; so is a resampler's everywhere, whose queries are not the keys' tokens.
        """
        dim = q_ILND.shape[-1]
        narrow = dim % 16 and not runs_on(self.gpu.capability, dim)
        if narrow or q_ILND.shape != k_ILND.shape:
            q, k, v = (x.transpose(1, 2) for x in (q_ILND, k_ILND, v_ILND))
            return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)
        return attention_full(self.gpu, q_ILND, k_ILND, v_ILND, scale=scale)

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
        """Return attention over a grid with relative positions; torch's own flash kernel."""
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
        """Return the convolution of maps, channels last; cuDNN."""
        return conv2d(x_IyxC, weight_OCkk, bias_O, stride=stride, padding=padding, groups=groups)

    def patch_rows(self, pixels: Tensor | BytePixels, layout: PatchLayout) -> Tensor:
        """Return the rows of a tower's first product; of numbers, torch makes them."""
        if patch_rows.takes(pixels, self.gpu, layout):
            return patch_rows.patch_rows(self.gpu, pixels, layout)
        return torch_patch_rows(pixels, layout)

    def cut_tiles(self, picture_YX4: Tensor, passes: Sequence[AxisPass], out_ISSC: Tensor) -> None:
        """Resize axis after axis and write tiles."""
        cut_tiles(self.gpu, picture_YX4, passes, out_ISSC)
