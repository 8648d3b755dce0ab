"""The network that is trained: InternVL2's figure with upstream's module names, so that its state dict is a
checkpoint.

InternViT (layer norm, layer scale) -> drop class token -> pixel shuffle v2 -> mlp1 -> InternLM2 (grouped
wqkv, GQA, rotary). Only training uses it; the product runs the checkpoint through `engines/`.
The dense heads are a training aid in `train.py`.

Legend: I tiles, L patches of a tile and the class token, B sequences, T tokens, H hidden, N heads, K KV
heads, D head dim.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deployer.pocket_vl.sizes import Sizes
from deployer.pocket_vl.tower import VisionModel

# Which tokens see which: the first `prefix` see what is before them, the others what the mask
# [B, T - prefix, T] says; without a mask, every token sees what is before it.
Sight = tuple[int, Tensor | None]


class DecoderAttention(nn.Module):
    """Grouped-query attention; rows of wqkv are grouped by KV head: its queries, its key, its value."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.kv_heads = sizes.kv_heads
        self.group = sizes.heads // sizes.kv_heads
        self.head_dim = sizes.hidden // sizes.heads
        self.wqkv = nn.Linear(sizes.hidden, (sizes.heads + 2 * sizes.kv_heads) * self.head_dim, bias=False)
        self.wo = nn.Linear(sizes.hidden, sizes.hidden, bias=False)

    def forward(self, x_BTH: Tensor, cos: Tensor, sin: Tensor, sight: Sight) -> Tensor:
        """Return [B, T, H]; cos and sin are [B, 1, T, D/2]."""
        batch, length, hidden = x_BTH.shape
        grouped = self.wqkv(x_BTH).view(batch, length, self.kv_heads, self.group + 2, self.head_dim)
        q_BNTD = grouped[..., : self.group, :].flatten(2, 3).transpose(1, 2)
        k_BKTD, v_BKTD = grouped[..., -2, :].transpose(1, 2), grouped[..., -1, :].transpose(1, 2)
        q_BNTD, k_BKTD = _rotated(q_BNTD, cos, sin), _rotated(k_BKTD, cos, sin)
        k, v = (part.repeat_interleave(self.group, dim=1) for part in (k_BKTD, v_BKTD))
        out_BNTD = _attention(q_BNTD, k, v, sight)
        return cast(Tensor, self.wo(out_BNTD.transpose(1, 2).reshape(batch, length, hidden)))


class FeedForward(nn.Module):
    """w2(silu(w1) * w3)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.w1 = nn.Linear(sizes.hidden, sizes.ffn, bias=False)
        self.w3 = nn.Linear(sizes.hidden, sizes.ffn, bias=False)
        self.w2 = nn.Linear(sizes.ffn, sizes.hidden, bias=False)

    def forward(self, x_BTH: Tensor) -> Tensor:
        """Return [B, T, H]."""
        return cast(Tensor, self.w2(F.silu(self.w1(x_BTH)) * self.w3(x_BTH)))


class DecoderLayer(nn.Module):
    """One pre-norm block."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(sizes.hidden, eps=sizes.norm_eps)
        self.ffn_norm = nn.RMSNorm(sizes.hidden, eps=sizes.norm_eps)
        self.attention = DecoderAttention(sizes)
        self.feed_forward = FeedForward(sizes)

    def forward(self, x_BTH: Tensor, cos: Tensor, sin: Tensor, sight: Sight) -> Tensor:
        """Return the next residual stream."""
        x_BTH = x_BTH + self.attention(self.attention_norm(x_BTH), cos, sin, sight)
        return cast(Tensor, x_BTH + self.feed_forward(self.ffn_norm(x_BTH)))


class Decoder(nn.Module):
    """Embedding, layers, norm."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(sizes.vocab, sizes.hidden)
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.layers))
        self.norm = nn.RMSNorm(sizes.hidden, eps=sizes.norm_eps)


class LanguageModel(nn.Module):
    """Decoder and head."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.model = Decoder(sizes)
        self.output = nn.Linear(sizes.hidden, sizes.vocab, bias=False)
        self.theta = sizes.rope_theta
        self.head_dim = sizes.hidden // sizes.heads

    def forward(self, x_BTH: Tensor, positions_BT: Tensor, sight: Sight) -> Tensor:
        """Return the normed hidden states."""
        dims = torch.arange(0, self.head_dim, 2, device=x_BTH.device, dtype=torch.float32)
        angles = positions_BT[:, None, :, None] * self.theta ** (-dims / self.head_dim)
        cos, sin = angles.cos().to(x_BTH.dtype), angles.sin().to(x_BTH.dtype)
        for layer in self.model.layers:
            x_BTH = layer(x_BTH, cos, sin, sight)
        return cast(Tensor, self.model.norm(x_BTH))


class PocketVl(nn.Module):
    """The whole model."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.vision_model = VisionModel(sizes)
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(4 * sizes.vision_hidden),
            nn.Linear(4 * sizes.vision_hidden, sizes.hidden),
            nn.GELU(),
            nn.Linear(sizes.hidden, sizes.hidden),
        )
        self.language_model = LanguageModel(sizes)

    def encode(self, pixels_ICSS: Tensor) -> tuple[Tensor, Tensor]:
        """Return patch features [I, L - 1, H] and prompt rows [I, M, H] of normalised pixels."""
        features_ILH = self.vision_model(pixels_ICSS)
        tiles, half = len(features_ILH), self.sizes.grid // 2
        cells = features_ILH.view(tiles, half, 2, half, 2, -1).transpose(2, 3)
        return features_ILH, self.mlp1(cells.reshape(tiles, half * half, -1))

    def embed(self, ids_BT: Tensor, rows_MH: Tensor, *, row_id: int) -> Tensor:
        """Return token embeddings with picture rows in the slots, in order."""
        x_BTH = self.language_model.model.tok_embeddings(ids_BT)
        return cast(Tensor, x_BTH.masked_scatter((ids_BT == row_id)[..., None], rows_MH.to(x_BTH.dtype)))


def _attention(q_BNTD: Tensor, k_BNTD: Tensor, v_BNTD: Tensor, sight: Sight) -> Tensor:
    """Return attention, the causal head and the masked tail apart: the mask would slow the long head down."""
    prefix, mask_BTT = sight
    if mask_BTT is None:
        return F.scaled_dot_product_attention(q_BNTD, k_BNTD, v_BNTD, is_causal=True)
    head = F.scaled_dot_product_attention(
        q_BNTD[:, :, :prefix], k_BNTD[:, :, :prefix], v_BNTD[:, :, :prefix], is_causal=True
    )
    tail = F.scaled_dot_product_attention(q_BNTD[:, :, prefix:], k_BNTD, v_BNTD, attn_mask=mask_BTT[:, None])
    return torch.cat([head, tail], dim=2)


def _rotated(x_BNTD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x_BNTD.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def initialise(model: PocketVl, sizes: Sizes) -> None:
    """Set the starting weights: normal, narrow, narrower where a block ends in the residual stream."""
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or name.endswith(("class_embedding", "position_embedding")):
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            continue
        fan_in = parameter[0].numel()
        std = 0.5 if "tok_embeddings" in name else fan_in**-0.5
        if name.endswith(("attn.proj.weight", "fc2.weight", "wo.weight", "w2.weight")):
            depth = sizes.vision_layers if name.startswith("vision_model") else sizes.layers
            std *= (2 * depth) ** -0.5
        if name.endswith("output.weight"):
            std = 0.02
        nn.init.normal_(parameter, std=std)
    table_1LH = model.vision_model.embeddings.position_embedding
    with torch.no_grad():
        table_1LH[0, 1:] = _waves(sizes.grid, sizes.vision_hidden)


def _waves(grid: int, hidden: int) -> Tensor:
    """Return sines and cosines of each patch's row and column, [grid * grid, hidden]."""
    rates = 100.0 ** -torch.linspace(0, 1, hidden // 4)
    along_GW = torch.arange(grid)[:, None] * rates
    waves_GW = torch.cat([along_GW.sin(), along_GW.cos()], dim=1)
    rows = waves_GW[:, None].expand(grid, grid, -1)
    columns = waves_GW[None].expand(grid, grid, -1)
    return 0.5 * torch.cat([rows, columns], dim=2).flatten(0, 1)
