"""Every tensor a network consists of, by name and shape, from the spec alone. Torch-free.

The loader allocates and fills these, the networks take them by name, the planner counts them. Shapes are the
whole model's; `split` says what one rank of a tensor-parallel group holds (`engines/weights/split.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from engines.spec import DecoderSpec, ModelSpec, ProjectorSpec, TowerSpec, VisionSpec

# copy: all of it on every rank. rows, cols: a stretch of axis 0, axis 1. vocab: rows after padding their
# number. padded: all rows and the padding on every rank. first_rank: all of it on rank 0, zeros on the others
# (a bias that is added before the sum over ranks).
Split = Literal["copy", "rows", "cols", "vocab", "padded", "first_rank"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One of several matrices stored below each other in a fused parameter; ranks share it in whole units."""

    name: str
    num_units: int  # heads, or single rows
    unit_rows: int

    @property
    def num_rows(self) -> int:
        """Rows of the whole block."""
        return self.num_units * self.unit_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One tensor of a network."""

    name: str
    shape: tuple[int, ...]
    split: Split = "copy"
    blocks: tuple[Block, ...] = ()  # of axis 0, with split="rows"
    optional: bool = False  # the checkpoint may lack it
    role: Literal["matrix", "norm", "bias", "embedding", "scale"] = "matrix"


def parameters(spec: ModelSpec) -> tuple[Parameter, ...]:
    """Return the parameters of a model in the order in which a forward pass meets them."""
    vision = () if spec.vision is None else tuple(_vision(spec.vision, spec.decoder.hidden))
    return vision + tuple(_decoder(spec.decoder))


def _linear(
    name: str,
    shape: tuple[int, int],
    *,
    bias: bool,
    split: Split = "copy",
    blocks: tuple[Block, ...] = (),
) -> Iterator[Parameter]:
    yield Parameter(name=f"{name}.weight", shape=shape, split=split, blocks=blocks)
    if bias:
        bias_split: Split = "first_rank" if split == "cols" else split
        yield Parameter(name=f"{name}.bias", shape=shape[:1], split=bias_split, blocks=blocks, role="bias")


def _norm(name: str, width: int, *, bias: bool = False) -> Iterator[Parameter]:
    yield Parameter(name=f"{name}.weight", shape=(width,), role="norm")
    if bias:
        yield Parameter(name=f"{name}.bias", shape=(width,), role="bias")


def _decoder(spec: DecoderSpec) -> Iterator[Parameter]:
    table = (spec.vocab, spec.hidden)
    yield Parameter(name="decoder.embed.weight", shape=table, split="padded", role="embedding")
    for i in range(spec.num_layers):
        yield from _decoder_layer(spec, f"decoder.layers.{i}")
    yield from _norm("decoder.norm", spec.hidden)
    yield Parameter(name="decoder.head.weight", shape=table, split="vocab", optional=spec.tied_head)


def _decoder_layer(spec: DecoderSpec, name: str) -> Iterator[Parameter]:
    hidden, attended = spec.hidden, spec.num_heads * spec.head_dim
    qkv = (
        Block(name="q", num_units=spec.num_heads, unit_rows=spec.head_dim),
        Block(name="k", num_units=spec.num_kv_heads, unit_rows=spec.head_dim),
        Block(name="v", num_units=spec.num_kv_heads, unit_rows=spec.head_dim),
    )
    gate_up = tuple(Block(name=half, num_units=spec.ffn, unit_rows=1) for half in ("gate", "up"))
    qkv_shape = (sum(block.num_rows for block in qkv), hidden)
    yield from _norm(f"{name}.attention_norm", hidden)
    yield from _linear(f"{name}.qkv", qkv_shape, bias=spec.qkv_bias, split="rows", blocks=qkv)
    yield from _linear(f"{name}.o", (hidden, attended), bias=spec.o_bias, split="cols")
    yield from _norm(f"{name}.ffn_norm", hidden)
    yield from _linear(
        f"{name}.gate_up", (2 * spec.ffn, hidden), bias=spec.mlp_bias, split="rows", blocks=gate_up
    )
    yield from _linear(f"{name}.down", (hidden, spec.ffn), bias=spec.mlp_bias, split="cols")


def _vision(spec: VisionSpec, out: int) -> Iterator[Parameter]:
    yield from _intern_vit(spec.tower)
    yield from _projector(spec.projector, spec.tower.hidden, out)


def _intern_vit(spec: TowerSpec) -> Iterator[Parameter]:
    hidden, ffn, layer_norm = spec.hidden, spec.ffn, spec.norm == "layer_norm"
    num_positions = (spec.image // spec.patch) ** 2 + 1
    patch_shape = (hidden, 3, spec.patch, spec.patch)
    yield Parameter(name="vision.class_token", shape=(1, 1, hidden), role="embedding")
    yield Parameter(name="vision.positions", shape=(1, num_positions, hidden), role="embedding")
    yield Parameter(name="vision.patch.weight", shape=patch_shape)
    yield Parameter(name="vision.patch.bias", shape=(hidden,), role="bias")
    for i in range(spec.num_layers):
        name = f"vision.layers.{i}"
        yield from _norm(f"{name}.norm1", hidden, bias=layer_norm)
        yield from _linear(f"{name}.qkv", (3 * hidden, hidden), bias=spec.qkv_bias)
        if spec.qk_norm:
            yield from _norm(f"{name}.q_norm", hidden)
            yield from _norm(f"{name}.k_norm", hidden)
        yield from _linear(f"{name}.o", (hidden, hidden), bias=True)
        yield Parameter(name=f"{name}.scale1", shape=(hidden,), role="scale")
        yield from _norm(f"{name}.norm2", hidden, bias=layer_norm)
        yield from _linear(f"{name}.fc1", (ffn, hidden), bias=True)
        yield from _linear(f"{name}.fc2", (hidden, ffn), bias=True)
        yield Parameter(name=f"{name}.scale2", shape=(hidden,), role="scale")


def _projector(spec: ProjectorSpec, hidden: int, out: int) -> Iterator[Parameter]:
    width = hidden * round(1 / spec.downsample) ** 2
    yield from _norm("projector.norm", width, bias=True)
    yield from _linear("projector.fc1", (out, width), bias=True)
    yield from _linear("projector.fc2", (out, out), bias=True)
