"""The vision transformers of CLIP, SigLIP and their kin: pre-norm layers over a table of positions.

    x = [class, patches] + positions;  x = pre_norm(x)
    each layer:  x += attention(norm1(x));  x += fc2(act(fc1(norm2(x))))

What is in square brackets, the norms around the stack and the activation are fields of the spec.

Legend: I tiles, S side in pixels, C colours, L tokens of a tile (class first), H hidden, N heads, D head dim.
"""

from torch import Tensor

from engines.ops import BytePixels, Ops
from engines.quant.linear_tensors import Params, linear_of
from engines.vision.norm import Norm
from engines.vision.passes import resized_table
from engines.vision.towers.clip_vit_spec import ClipVitSpec
from engines.vision.towers.patch_embedding import PatchEmbedding


class ClipVit:
    """The tower."""

    def __init__(self, spec: ClipVitSpec, params: Params, *, name: str, ops: Ops) -> None:
        self._spec = spec
        self._table_LH = params[f"{name}.positions"]
        grid = (spec.tile or spec.image) // spec.patch
        self._embedding = PatchEmbedding(
            weight_HCpp=params[f"{name}.patch.weight"],
            bias_H=params.get(f"{name}.patch.bias"),
            class_token_H=params[f"{name}.class_token"].flatten() if spec.class_token else None,
            positions_LH=resized_table(self._table_LH, grid, class_rows=int(spec.class_token)),
            ops=ops,
        )
        self._pre_norm, self._post_norm = (
            Norm(params, f"{name}.{norm}", eps=spec.norm_eps, ops=ops) if is_there else None
            for norm, is_there in (("pre_norm", spec.pre_norm), ("post_norm", spec.post_norm))
        )
        self._layers = [ClipLayer(spec, params, f"{name}.layers.{i}", ops=ops) for i in range(spec.depth)]

    def __call__(self, pixels: Tensor | BytePixels, position_ids_L: Tensor | None = None) -> Tensor:
        """Return the features of the selected layer, [I, patches, H].

        `position_ids_L` names the table's row of each patch, for pictures that are not square.
        """
        x_ILH = self._embedding(pixels, None if position_ids_L is None else self._table_LH[position_ids_L])
        if self._pre_norm is not None:
            x_ILH = self._pre_norm(x_ILH)
        for layer in self._layers:
            x_ILH = layer(x_ILH)
        if self._post_norm is not None:
            x_ILH = self._post_norm(x_ILH)
        drops_class = self._spec.class_token and not self._spec.keep_class_token
        return x_ILH[:, 1:] if drops_class else x_ILH


class ClipLayer:
    """One block of the tower."""

    def __init__(self, spec: ClipVitSpec, params: Params, name: str, *, ops: Ops) -> None:
        self._ops = ops
        self._num_heads = spec.num_heads
        self._scale = (spec.hidden // spec.num_heads) ** -0.5
        self._activation = spec.activation
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
        x_ILH = ops.linear_add(self._attention(self._norm1(x_ILH)), self._o, x_ILH)
        inner_ILF = ops.linear_gelu(self._norm2(x_ILH), self._fc1, self._activation)
        return ops.linear_add(inner_ILF, self._fc2, x_ILH)

    def _attention(self, x_ILH: Tensor) -> Tensor:
        ops, heads = self._ops, (*x_ILH.shape[:2], self._num_heads, -1)
        q, k, v = (part.view(heads) for part in ops.linear_tower(x_ILH, self._qkv).chunk(3, dim=-1))
        return ops.attention_full(q, k, v, scale=self._scale).flatten(2)
