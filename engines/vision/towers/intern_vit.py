"""InternViT, 300M and 6B: a pre-norm vision transformer with layer scale and no norm around the stack.

    x = [class, patches] + positions
    each layer:  x += scale1 * attention(norm1(x));  x += scale2 * fc2(gelu(fc1(norm2(x))))

Every rank holds the whole tower: 25 heads (6B) divide by no useful group size.

Legend: I tiles, S side in pixels, C colours, L tokens of a tile (class first), H hidden, N heads, D head dim.
"""

from torch import Tensor

from engines.ops import BytePixels, Ops
from engines.quant.linear_tensors import Params, linear_of
from engines.vision.norm import Norm
from engines.vision.passes import resized_table
from engines.vision.towers.intern_vit_spec import InternVitSpec
from engines.vision.towers.patch_embedding import PatchEmbedding


class InternVit:
    """The tower."""

    def __init__(
        self, spec: InternVitSpec, params: Params, *, image: int, ops: Ops, name: str = "vision"
    ) -> None:
        self._ops = ops
        self._embedding = PatchEmbedding(
            weight_HCpp=params[f"{name}.patch.weight"],
            bias_H=params[f"{name}.patch.bias"],
            class_token_H=params[f"{name}.class_token"].flatten(),
            positions_LH=resized_table(params[f"{name}.positions"][0], image // spec.patch, class_rows=1),
            ops=ops,
        )
        self._layers = [VitLayer(spec, params, f"{name}.layers.{i}", ops=ops) for i in range(spec.depth)]

    def __call__(self, pixels: Tensor | BytePixels) -> Tensor:
        """Return the features of the selected layer without the class token, [I, patches, H]."""
        x_ILH = self._embedding(pixels)
        for layer in self._layers:
            x_ILH = layer(x_ILH)
        return x_ILH[:, 1:]


class VitLayer:
    """One block of the tower."""

    def __init__(self, spec: InternVitSpec, params: Params, name: str, *, ops: Ops) -> None:
        self._ops = ops
        self._num_heads = spec.num_heads
        self._norm1, self._norm2, *self._qk_norms = (
            Norm(params, f"{name}.{norm}", eps=spec.norm_eps, ops=ops)
            for norm in ("norm1", "norm2", *(("q_norm", "k_norm") if spec.qk_norm else ()))
        )
        self._qkv = linear_of(params, f"{name}.qkv")
        self._o = linear_of(params, f"{name}.o")
        self._scale1_H = params[f"{name}.scale1"]
        self._fc1 = linear_of(params, f"{name}.fc1")
        self._fc2 = linear_of(params, f"{name}.fc2")
        self._scale2_H = params[f"{name}.scale2"]

    def __call__(self, x_ILH: Tensor) -> Tensor:
        """Return the next residual stream, [I, L, H]."""
        ops = self._ops
        mixed = self._attention(self._norm1(x_ILH))
        x_ILH = ops.linear_add(mixed, self._o, x_ILH, scale_O=self._scale1_H)
        inner = ops.linear_gelu(self._norm2(x_ILH), self._fc1, "gelu")
        return ops.linear_add(inner, self._fc2, x_ILH, scale_O=self._scale2_H)

    def _attention(self, x_ILH: Tensor) -> Tensor:
        ops, heads = self._ops, (*x_ILH.shape[:2], self._num_heads, -1)
        q, k, v = ops.linear_tower(x_ILH, self._qkv).chunk(3, dim=-1)
        if self._qk_norms:
            # NOTE: over all heads together, not a head at a time.
            q, k = (norm(x) for norm, x in zip(self._qk_norms, (q, k), strict=True))
        scale = (q.shape[-1] // self._num_heads) ** -0.5
        return ops.attention_full(q.view(heads), k.view(heads), v.view(heads), scale=scale).flatten(2)
