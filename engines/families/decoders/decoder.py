"""What one decoder declares, and the fields that all Llama-like configs share."""

from collections.abc import Callable
from dataclasses import dataclass

from engines.families.config_section import ConfigSection
from engines.families.decoders.rope_scaling import read_rope
from engines.spec import DecoderSpec
from engines.weights.rules import Rule


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoder:
    """One language model architecture."""

    name: str  # upstream's model_type, and `ModelSpec.decoder_names`
    architecture: str  # upstream's class, as in `architectures`
    read: Callable[[ConfigSection], DecoderSpec]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """What upstream's config class assumes where config.json has no such key."""

    vocab: int
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int | None  # None: as many as query heads
    max_positions: int
    norm_eps: float


def read_llama_like(
    section: ConfigSection,
    defaults: Defaults,
    *,
    qkv_bias: bool = False,
    o_bias: bool = False,
    mlp_bias: bool = False,
    sliding_window: int | None = None,
) -> DecoderSpec:
    """Read the fields under the names that Llama, InternLM2, Qwen2 and Phi-3 share."""
    section.must_be("hidden_act", "silu")
    section.must_be("partial_rotary_factor", 1.0)
    hidden = section.integer("hidden_size", defaults.hidden)
    num_heads = section.integer("num_attention_heads", defaults.heads)
    num_kv_heads = section.integer("num_key_value_heads", defaults.kv_heads or num_heads)
    head_dim = _head_dim(section, hidden, num_heads)
    if num_heads % num_kv_heads:
        section.fault("num_key_value_heads", f"must divide num_attention_heads, {num_heads}")
    positions = section.integer("max_position_embeddings", defaults.max_positions)
    return DecoderSpec(
        num_layers=section.integer("num_hidden_layers", defaults.layers),
        hidden=hidden,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        ffn=section.integer("intermediate_size", defaults.ffn),
        vocab=section.integer("vocab_size", defaults.vocab),
        norm_eps=section.number("rms_norm_eps", defaults.norm_eps),
        rope=read_rope(section, head_dim=head_dim, max_positions=positions),
        max_positions=positions,
        qkv_bias=qkv_bias,
        o_bias=o_bias,
        mlp_bias=mlp_bias,
        tied_head=section.flag("tie_word_embeddings", False),
        # A window as long as the longest sequence hides nothing.
        sliding_window=sliding_window if sliding_window is not None and sliding_window < positions else None,
    )


def _head_dim(section: ConfigSection, hidden: int, num_heads: int) -> int:
    if section.values.get("head_dim") is not None:
        return section.integer("head_dim")
    if hidden % num_heads:
        section.fault("hidden_size", f"must be a multiple of num_attention_heads, {num_heads}")
    return max(hidden // num_heads, 1)
