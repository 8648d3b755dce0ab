"""ConvNeXt, all stages' maps resized to the first one's and put side by side.

    each block:  x += scale * fc2(gelu(fc1(norm(depthwise(x)))))

Source: huggingface/pytorch-image-models, timm/models/convnext.py; dvlab-research/MGM,
mgm/model/multimodal_encoder/openclip_encoder.py.

Legend: I pictures, S side in pixels, C colours or channels, H channels of all stages; y, x lines and columns.
"""

import torch
from torch import Tensor

from engines.ops import Dense, Ops
from engines.quant.linear_tensors import Params, linear_of
from engines.vision.norm import Norm
from engines.vision.passes import patch_rows, resized_map
from engines.vision.towers.convnext_spec import STEM, ConvNextSpec


class ConvNext:
    """The tower."""

    def __init__(self, spec: ConvNextSpec, params: Params, *, name: str, ops: Ops) -> None:
        self._spec = spec
        self._ops = ops
        self._stem = Dense(
            weight_OI=params[f"{name}.stem.weight"].flatten(1), bias_O=params[f"{name}.stem.bias"]
        )
        self._stem_norm = Norm(params, f"{name}.stem_norm", eps=spec.norm_eps, ops=ops)
        self._stages = [Stage(spec, params, name, index, ops=ops) for index in range(len(spec.dims))]

    def __call__(self, pixels_ISSC: Tensor) -> Tensor:
        """Return the map [I, S / 4, S / 4, H] of normalised pictures."""
        grid = self._spec.grid
        x_ILC = self._ops.linear(patch_rows(pixels_ISSC, STEM), self._stem)
        x_IyxC = self._stem_norm(x_ILC).view(len(x_ILC), grid, grid, -1)
        maps = []
        for stage in self._stages:
            x_IyxC = stage(x_IyxC)
            maps.append(resized_map(x_IyxC, grid))
        return torch.cat(maps, dim=-1)


class Stage:
    """Blocks of one width, behind a halving in all stages but the first."""

    def __init__(self, spec: ConvNextSpec, params: Params, name: str, index: int, *, ops: Ops) -> None:
        stage = f"{name}.stages.{index}"
        self._ops = ops
        self._halve = None
        if index > 0:
            self._halve_norm = Norm(params, f"{stage}.halve_norm", eps=spec.norm_eps, ops=ops)
            self._halve = (params[f"{stage}.halve.weight"], params[f"{stage}.halve.bias"])
        self._blocks = [
            Block(params, f"{stage}.blocks.{i}", eps=spec.norm_eps, ops=ops)
            for i in range(spec.depths[index])
        ]

    def __call__(self, x_IyxC: Tensor) -> Tensor:
        """Return the stage's map."""
        if self._halve is not None:
            x_IyxC = self._ops.conv2d(self._halve_norm(x_IyxC), *self._halve, stride=2, padding=0)
        for block in self._blocks:
            x_IyxC = block(x_IyxC)
        return x_IyxC


class Block:
    """Depthwise convolution and FFN."""

    def __init__(self, params: Params, name: str, *, eps: float, ops: Ops) -> None:
        self._ops = ops
        self._depthwise = (params[f"{name}.depthwise.weight"], params[f"{name}.depthwise.bias"])
        self._norm = Norm(params, f"{name}.norm", eps=eps, ops=ops)
        self._fc1, self._fc2 = linear_of(params, f"{name}.fc1"), linear_of(params, f"{name}.fc2")
        self._scale_C = params[f"{name}.scale"]

    def __call__(self, x_IyxC: Tensor) -> Tensor:
        """Return the next map."""
        ops, channels = self._ops, x_IyxC.shape[-1]
        mixed = ops.conv2d(x_IyxC, *self._depthwise, stride=1, padding=3, groups=channels)
        inner = ops.linear_gelu(self._norm(mixed), self._fc1, "gelu")
        return ops.linear_add(inner, self._fc2, x_IyxC, scale_O=self._scale_C)
