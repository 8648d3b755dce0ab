"""The vision tower that is trained: InternViT with layer norm and layer scale, upstream's module names.

Legend: I tiles, L patches of a tile and the class token, C colours, S side in pixels, N heads, D head
dim, H hidden.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deployer.pocket_vl.sizes import Sizes


class VisionAttention(nn.Module):
    """Attention inside one tile."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.vision_heads
        self.qkv = nn.Linear(sizes.vision_hidden, 3 * sizes.vision_hidden)
        self.proj = nn.Linear(sizes.vision_hidden, sizes.vision_hidden)

    def forward(self, x_ILH: Tensor) -> Tensor:
        """Return [I, L, H]."""
        tiles, length, hidden = x_ILH.shape
        q, k, v = self.qkv(x_ILH).view(tiles, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        out_INLD = F.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.proj(out_INLD.transpose(1, 2).reshape(tiles, length, hidden)))


class VisionMlp(nn.Module):
    """fc2(gelu(fc1))."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.fc1 = nn.Linear(sizes.vision_hidden, sizes.vision_ffn)
        self.fc2 = nn.Linear(sizes.vision_ffn, sizes.vision_hidden)

    def forward(self, x_ILH: Tensor) -> Tensor:
        """Return [I, L, H]."""
        return cast(Tensor, self.fc2(F.gelu(self.fc1(x_ILH))))


class VisionLayer(nn.Module):
    """One pre-norm block with layer scale."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.vision_hidden, eps=sizes.vision_norm_eps)
        self.norm2 = nn.LayerNorm(sizes.vision_hidden, eps=sizes.vision_norm_eps)
        self.attn = VisionAttention(sizes)
        self.mlp = VisionMlp(sizes)
        self.ls1 = nn.Parameter(torch.ones(sizes.vision_hidden))
        self.ls2 = nn.Parameter(torch.ones(sizes.vision_hidden))

    def forward(self, x_ILH: Tensor) -> Tensor:
        """Return the next residual stream."""
        x_ILH = torch.addcmul(x_ILH, self.attn(self.norm1(x_ILH)), self.ls1)
        return torch.addcmul(x_ILH, self.mlp(self.norm2(x_ILH)), self.ls2)


class VisionEmbeddings(nn.Module):
    """Patches, class token, positions."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(1, 1, sizes.vision_hidden) * 0.02)
        self.position_embedding = nn.Parameter(torch.randn(1, sizes.grid**2 + 1, sizes.vision_hidden) * 0.02)
        self.patch_embedding = nn.Conv2d(3, sizes.vision_hidden, sizes.patch, stride=sizes.patch)

    def forward(self, pixels_ICSS: Tensor) -> Tensor:
        """Return [I, L, H]."""
        patches_ILH = self.patch_embedding(pixels_ICSS).flatten(2).transpose(1, 2)
        class_I1H = self.class_embedding.expand(len(patches_ILH), -1, -1)
        return torch.cat([class_I1H, patches_ILH], dim=1) + self.position_embedding


class VisionModel(nn.Module):
    """The tower."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(sizes)
        self.encoder = nn.ModuleDict(
            {"layers": nn.ModuleList(VisionLayer(sizes) for _ in range(sizes.vision_layers))}
        )

    def forward(self, pixels_ICSS: Tensor) -> Tensor:
        """Return patch features without the class token, [I, L - 1, H]."""
        x_ILH = self.embeddings(pixels_ICSS)
        for layer in cast(nn.ModuleList, self.encoder["layers"]):
            x_ILH = layer(x_ILH)
        return cast(Tensor, x_ILH[:, 1:])
