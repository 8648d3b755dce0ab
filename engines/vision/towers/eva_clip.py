"""EVA2-CLIP: a vision transformer whose norms stand behind attention and FFN, before the sum.

    x = [class, patches] + positions
    each layer:  x += norm1(attention(x));  x += norm2(fc2(gelu(fc1(x))))

Legend: I tiles, S side in pixels, C colours, L tokens of a tile (class first), H hidden, N heads, D head dim.
"""

from torch import Tensor

from engines.ops import BytePixels, Ops
from engines.quant.linear_tensors import Params, linear_of
from engines.vision.norm import Norm
from engines.vision.towers.eva_clip_spec import EvaClipSpec
from engines.vision.towers.patch_embedding import PatchEmbedding


class EvaClip:
    """The tower."""

    def __init__(self, spec: EvaClipSpec, params: Params, *, name: str, ops: Ops) -> None:
        self._ops = ops
        self._embedding = PatchEmbedding(
            weight_HCpp=params[f"{name}.patch.weight"],
            bias_H=params[f"{name}.patch.bias"],
            class_token_H=params[f"{name}.class_token"].flatten(),
            positions_LH=params[f"{name}.positions"],
            ops=ops,
        )
        self._layers = [EvaLayer(spec, params, f"{name}.layers.{i}", ops=ops) for i in range(spec.num_layers)]

    def __call__(self, pixels: Tensor | BytePixels) -> Tensor:
        """Return the features of the last layer without the class token, [I, patches, H]."""
        x_ILH = self._embedding(pixels)
        for layer in self._layers:
            x_ILH = layer(x_ILH)
        return x_ILH[:, 1:]


class EvaLayer:
    """One block of the tower."""

    def __init__(self, spec: EvaClipSpec, params: Params, name: str, *, ops: Ops) -> None:
        self._ops = ops
        self._num_heads = spec.num_heads
        self._scale = (spec.hidden // spec.num_heads) ** -0.5
        self._norm1, self._norm2 = (
            Norm(params, f"{name}.{norm}", eps=spec.norm_eps, ops=ops) for norm in ("norm1", "norm2")
        )
        self._qkv = linear_of(params, f"{name}.qkv")
        self._o = linear_of(params, f"{name}.o")
        self._fc1 = linear_of(params, f"{name}.fc1")
        self._fc2 = linear_of(params, f"{name}.fc2")

    def __call__(self, x_ILH: Tensor) -> Tensor:
        """Return the next residual stream, [I, L, H]."""
        ops = self._ops
        x_ILH = x_ILH + self._norm1(self._attention(x_ILH))
        inner_ILF = ops.linear_gelu(x_ILH, self._fc1, "gelu")
        return x_ILH + self._norm2(ops.linear(inner_ILF, self._fc2))

    def _attention(self, x_ILH: Tensor) -> Tensor:
        ops, heads = self._ops, (*x_ILH.shape[:2], self._num_heads, -1)
        q, k, v = (part.view(heads) for part in ops.linear(x_ILH, self._qkv).chunk(3, dim=-1))
        return ops.linear(ops.attention_full(q, k, v, scale=self._scale).flatten(2), self._o)
