"""The op table: every computation a network asks for, as functions on tensors; each engine implements it.

`engines/pytorch/ops_torch.py` is the truth on CPU and GPU; `engines/turbomind/` is held to it op by op. An op
allocates its result unless it says otherwise, never syncs with the host and never keeps state. Inputs may be
views with strides, the last axis (the last two of q, k, v) contiguous.

Legend: T tokens, H hidden, N query heads, K KV heads, D head dim, F FFN width, V vocabulary, S sampled rows,
I images (tiles), L patches of a tile, P pages; of a linear layer O outputs, I inputs, G groups of inputs.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from engines.decoder.rope import Rope
from engines.linear_weight import Bf12 as Bf12
from engines.linear_weight import Dense as Dense
from engines.linear_weight import Dense12 as Dense12
from engines.linear_weight import Fp7 as Fp7
from engines.linear_weight import Fp8 as Fp8
from engines.linear_weight import Int4 as Int4
from engines.linear_weight import Int8 as Int8
from engines.linear_weight import Weight as Weight
from engines.memory.kv_layer import KvLayer as KvLayer
from engines.operand_groups import AxisPass as AxisPass
from engines.operand_groups import BetweenAttentions as BetweenAttentions
from engines.operand_groups import BytePixels as BytePixels
from engines.operand_groups import Gelu as Gelu
from engines.operand_groups import PatchLayout as PatchLayout
from engines.operand_groups import RepeatedRows as RepeatedRows
from engines.parallel import TpGroup
from engines.steps.step import AttentionBatch


class Ops(Protocol):
    """What a network may ask for."""

    def embed(self, table_VH: Tensor, ids_T: Tensor) -> Tensor:
        """Return rows of the table, [T, H]."""
        ...

    def rms_norm(self, x_TH: Tensor, weight_H: Tensor, eps: float) -> Tensor:
        """Return x * rsqrt(mean(x^2) + eps), statistics in fp32, cast back, times weight."""
        ...

    def add_rms_norm(
        self, x_TH: Tensor, residual_TH: Tensor, weight_H: Tensor, eps: float, group: TpGroup | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (rms_norm(x + residual), x + residual); the second is rounded to the dtype of x first.

        With a group, here and below, x is this rank's addend: its sum over the ranks is meant, and x may be
        overwritten.
        """
        ...

    def add_rms_norm_linear(
        self,
        x_TH: Tensor,
        residual_TH: Tensor,
        norm_H: Tensor,
        eps: float,
        weight: Weight,
        group: TpGroup | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (linear(rms_norm(x + residual) * norm, weight), x + residual).

        The numbers are those of `add_rms_norm` and `linear`, in one op.
        """
        ...

    def layer_norm(self, x_TH: Tensor, weight_H: Tensor, bias_H: Tensor, eps: float) -> Tensor:
        """Return the usual layer norm over the last axis, statistics in fp32."""
        ...

    def layer_norm_cells(
        self, x_ILH: Tensor, weight_W: Tensor, bias_W: Tensor, eps: float, *, factor: int, by_columns: bool
    ) -> Tensor:
        """Return the layer norm of joined neighbours in square maps, [I, L / factor^2, W = factor^2 H].

        A row has a cell of factor x factor rows of x, line by line. Cells come line by line, or by columns.
        """
        ...

    def linear(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Return x @ W.T + b in the dtype of x, any leading axes."""
        ...

    def linear_tower(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Return linear(x, weight) of a vision tower, whose rows come by whole pictures.

        Apart from `linear`, whose rows are a step's: there each number of rows may come, and here few do.
        """
        ...

    def silu_mul(self, gate_up_T2F: Tensor) -> Tensor:
        """Return silu(first half) * second half, [T, F]."""
        ...

    def silu_mul_linear(self, gate_up_T2F: Tensor, weight: Weight) -> Tensor:
        """Return linear(silu_mul(gate_up), weight), [T, O]: the same numbers, in one op."""
        ...

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
        """Return (linear(silu_mul(linear(rms_norm(x + residual) * norm, gate_up)), down), x + residual).

        The numbers are those of the ops apart; gates are the first half of `gate_up`.
        """
        ...

    def layer_products(
        self, attended_TA: Tensor, residual_TH: Tensor, between: BetweenAttentions
    ) -> tuple[Tensor, Tensor]:
        """Return (qkv of the next layer, [T, X], the residual that its norm saw, [T, H]).

        The numbers are those of `linear`, `add_rms_norm_ffn` and `add_rms_norm_linear` in turn:
        x = o(attended); x, residual = add_rms_norm_ffn(x, residual); add_rms_norm_linear(x, residual).
        """
        ...

    def gelu(self, x_TF: Tensor) -> Tensor:
        """Return the exact (erf) GELU."""
        ...

    def gelu_tanh(self, x_TF: Tensor) -> Tensor:
        """Return x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
        ...

    def quick_gelu(self, x_TF: Tensor) -> Tensor:
        """Return x * sigmoid(1.702 x)."""
        ...

    def linear_gelu(self, x_TI: Tensor, weight: Weight, form: Gelu) -> Tensor:
        """Return the op `form` of linear(x, weight), [T, O], in one op; the product is rounded first."""
        ...

    def linear_add(
        self,
        x_TI: Tensor,
        weight: Weight,
        residual_TO: Tensor | RepeatedRows,
        *,
        scale_O: Tensor | None = None,
    ) -> Tensor:
        """Return residual + linear(x, weight) * scale, in one op; the product is rounded first.

        Without a scale it is 1. Rows that repeat are added to x [.., L, I], L of them.
        """
        ...

    def rope_tables(self, rope: Rope, positions: Tensor, rope_lens_T: Tensor) -> tuple[Tensor, Tensor]:
        """Return `rope.tables` of positions [T] or [axes, T]: cos and sin, fp32 [T, R]."""
        ...

    def rope(self, q_TND: Tensor, k_TKD: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate half-split pairs: (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin).

        cos and sin are fp32 [T, R]; 2 R <= D leading elements of a head are rotated, the rest passes.
        """
        ...

    def store_kv(self, k_TKD: Tensor, v_TKD: Tensor, layer: KvLayer, slots_T: Tensor) -> None:
        """Write the rows of k and v into their slots of the pages, in place."""
        ...

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
        """Return q rotated; write k rotated and v into their slots: `rope` and `store_kv` in one op."""
        ...

    def attention_paged(
        self, q_TND: Tensor, layer: KvLayer, batch: AttentionBatch, *, scale: float, window: int | None
    ) -> Tensor:
        """Return causal attention of new tokens over their sequence's pages, [T, N, D].

        The keys of the step's own tokens are in the pages already. Token t of a sequence with q new tokens
        and length n stands at position n - q + t and sees the keys at or before it, the last `window` of them
        if a window is given. Slots that no step wrote may hold anything, NaN too, and must not matter.
        """
        ...

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
        """Return the attention of all tokens of a step: `rope_store_kv` and `attention_paged` in one op."""
        ...

    def attention_full(self, q_ILND: Tensor, k_ILND: Tensor, v_ILND: Tensor, *, scale: float) -> Tensor:
        """Return unmasked attention inside each image, [I, Q, N, D]; q may be of another length."""
        ...

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
        """Return unmasked attention over a grid of Y lines and X columns, L = Y X, [I, L, N, D].

        A query's score with the key at (y, x) is scale * q.k + down[y] + across[x].
        """
        ...

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
        """Return the convolution of maps, channels last and zeros around them, [I, y', x', O], contiguous."""
        ...

    def patch_rows(self, pixels: Tensor | BytePixels, layout: PatchLayout) -> Tensor:
        """Return the rows of a tower's first product, [I, L, W], of pictures of whole patches.

        Pixels that are no bytes are normalised numbers, [I, S, S, C]; height and width may differ.
        """
        ...

    def cut_tiles(self, picture_YX4: Tensor, passes: Sequence[AxisPass], out_ISSC: Tensor) -> None:
        """Resize a picture, one or two axes in this order, and write it as tiles, row by row; all uint8.

        The fourth byte of a pixel is ignored. `out` is contiguous, with tiles of three colours.
        """
        ...
