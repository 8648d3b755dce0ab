"""Llama, and what is published as one: Vicuna, Yi, Hermes-2. Its names are the ones that others vary."""

from engines.families.config_section import ConfigSection
from engines.families.decoders.decoder import Decoder, Defaults, read_llama_like
from engines.spec import DecoderSpec
from engines.weights.rules import Rule, rows

# Of transformers' LlamaConfig.
DEFAULTS = Defaults(
    vocab=32000, hidden=4096, ffn=11008, layers=32, heads=32, kv_heads=None, max_positions=2048, norm_eps=1e-6
)

OUTER_RULES = rows(
    ("model.embed_tokens.weight", "decoder.embed.weight"),
    ("model.norm.weight", "decoder.norm.weight"),
    ("lm_head.weight", "decoder.head.weight"),
)
NORM_RULES = rows(
    ("model.layers.{i}.input_layernorm.weight", "decoder.layers.{i}.attention_norm.weight"),
    ("model.layers.{i}.post_attention_layernorm.weight", "decoder.layers.{i}.ffn_norm.weight"),
)
DOWN_RULES = rows(
    ("model.layers.{i}.self_attn.o_proj.weight", "decoder.layers.{i}.o.weight"),
    ("model.layers.{i}.self_attn.o_proj.bias", "decoder.layers.{i}.o.bias"),
    ("model.layers.{i}.mlp.down_proj.weight", "decoder.layers.{i}.down.weight"),
    ("model.layers.{i}.mlp.down_proj.bias", "decoder.layers.{i}.down.bias"),
)
QKV_RULES = tuple(
    Rule(
        source=f"model.layers.{{i}}.self_attn.{block}_proj.{kind}",
        target=f"decoder.layers.{{i}}.qkv.{kind}",
        block=block,
    )
    for block in ("q", "k", "v")
    for kind in ("weight", "bias")
)
GATE_UP_RULES = tuple(
    Rule(
        source=f"model.layers.{{i}}.mlp.{block}_proj.{kind}",
        target=f"decoder.layers.{{i}}.gate_up.{kind}",
        block=block,
    )
    for block in ("gate", "up")
    for kind in ("weight", "bias")
)
LLAMA_RULES = OUTER_RULES + NORM_RULES + DOWN_RULES + QKV_RULES + GATE_UP_RULES


def read(section: ConfigSection) -> DecoderSpec:
    """Read a LlamaConfig."""
    bias = section.flag("attention_bias", False)
    return read_llama_like(
        section, DEFAULTS, qkv_bias=bias, o_bias=bias, mlp_bias=section.flag("mlp_bias", False)
    )


LLAMA = Decoder(name="llama", architecture="LlamaForCausalLM", read=read, rules=LLAMA_RULES)
