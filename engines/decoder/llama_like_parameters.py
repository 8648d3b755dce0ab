"""The parameters of a Llama-like decoder. Torch-free."""

from collections.abc import Iterator

from engines.spec import DecoderSpec
from engines.weights.parameter import Block, Parameter, linear, norm


def parameters(spec: DecoderSpec) -> Iterator[Parameter]:
    """Yield the parameters in the order of a forward pass."""
    table = (spec.vocab, spec.hidden)
    yield Parameter(name="decoder.embed.weight", shape=table, split="padded", role="embedding")
    for i in range(spec.num_layers):
        yield from _layer(spec, f"decoder.layers.{i}")
    yield from norm("decoder.norm", spec.hidden)
    yield Parameter(name="decoder.head.weight", shape=table, split="vocab", optional=spec.tied_head)


def _layer(spec: DecoderSpec, name: str) -> Iterator[Parameter]:
    hidden, attended = spec.hidden, spec.num_heads * spec.head_dim
    qkv = (
        Block(name="q", num_units=spec.num_heads, unit_rows=spec.head_dim),
        Block(name="k", num_units=spec.num_kv_heads, unit_rows=spec.head_dim),
        Block(name="v", num_units=spec.num_kv_heads, unit_rows=spec.head_dim),
    )
    gate_up = tuple(Block(name=half, num_units=spec.ffn, unit_rows=1) for half in ("gate", "up"))
    qkv_shape = (sum(block.num_rows for block in qkv), hidden)
    yield from norm(f"{name}.attention_norm", hidden)
    yield from linear(f"{name}.qkv", qkv_shape, bias=spec.qkv_bias, split="rows", blocks=qkv)
    yield from linear(f"{name}.o", (hidden, attended), bias=spec.o_bias, split="cols")
    yield from norm(f"{name}.ffn_norm", hidden)
    yield from linear(
        f"{name}.gate_up", (2 * spec.ffn, hidden), bias=spec.mlp_bias, split="rows", blocks=gate_up
    )
    yield from linear(f"{name}.down", (hidden, spec.ffn), bias=spec.mlp_bias, split="cols")
    if spec.plora_rank:
        yield from _partial_lora(spec, name, qkv=qkv, gate_up=gate_up)


def _partial_lora(
    spec: DecoderSpec, name: str, *, qkv: tuple[Block, ...], gate_up: tuple[Block, ...]
) -> Iterator[Parameter]:
    rank, hidden, attended = spec.plora_rank, spec.hidden, spec.num_heads * spec.head_dim
    both = tuple(Block(name=half, num_units=rank, unit_rows=1) for half in ("gate", "up"))
    qkv_rows, gate_up_rows = (sum(block.num_rows for block in blocks) for blocks in (qkv, gate_up))
    yield Parameter(name=f"{name}.qkv.lora_a", shape=(rank, hidden))
    yield Parameter(name=f"{name}.qkv.lora_b", shape=(qkv_rows, rank), split="rows", blocks=qkv)
    yield Parameter(name=f"{name}.o.lora_a", shape=(rank, attended), split="cols")
    yield Parameter(name=f"{name}.o.lora_b", shape=(hidden, rank))
    yield Parameter(name=f"{name}.gate_up.lora_a", shape=(2 * rank, hidden), blocks=both)
    yield Parameter(name=f"{name}.gate_up.lora_b", shape=(gate_up_rows, rank), split="rows", blocks=gate_up)
    yield Parameter(name=f"{name}.down.lora_a", shape=(rank, spec.ffn), split="cols")
    yield Parameter(name=f"{name}.down.lora_b", shape=(hidden, rank))
