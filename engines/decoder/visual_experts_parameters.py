"""The parameters of a decoder with experts for image rows. Torch-free."""

from collections.abc import Iterator

from engines.decoder.llama_like_parameters import parameters as llama_like
from engines.spec import DecoderSpec
from engines.weights.parameter import Block, Parameter, linear

ROPE = "decoder.rope.inverse"


def parameters(spec: DecoderSpec) -> Iterator[Parameter]:
    """Yield the rotary frequencies, those of a Llama-like decoder, and a second set of linear layers."""
    pairs = spec.head_dim // 2
    yield Parameter(name=ROPE, shape=(pairs,), optional=True, keeps_dtype=True, role="scale")
    yield from llama_like(spec)
    for i in range(spec.num_layers):
        yield from _experts(spec, f"decoder.layers.{i}")


def _experts(spec: DecoderSpec, name: str) -> Iterator[Parameter]:
    hidden, attended = spec.hidden, spec.num_heads * spec.head_dim
    heads = (("q", spec.num_heads), ("k", spec.num_kv_heads), ("v", spec.num_kv_heads))
    qkv = tuple(Block(name=part, num_units=count, unit_rows=spec.head_dim) for part, count in heads)
    gate_up = tuple(Block(name=half, num_units=spec.ffn, unit_rows=1) for half in ("gate", "up"))
    qkv_shape = (sum(block.num_rows for block in qkv), hidden)
    yield from linear(f"{name}.vision_qkv", qkv_shape, bias=spec.vision_qkv_bias, split="rows", blocks=qkv)
    yield from linear(f"{name}.vision_o", (hidden, attended), bias=False, split="cols")
    yield from linear(
        f"{name}.vision_gate_up", (2 * spec.ffn, hidden), bias=False, split="rows", blocks=gate_up
    )
    yield from linear(f"{name}.vision_down", (hidden, spec.ffn), bias=False, split="cols")
