"""Llama, and what is published as one: Vicuna, Yi, Hermes-2. Its names are the ones that others vary."""

from engines.families.config_section import ConfigSection
from engines.families.decoders.decoder import Decoder, Defaults, read_llama_like
from engines.spec import DecoderSpec
from engines.weights.rules import fused, layers, rows

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
DOWN_RULES = layers(
    ("model.layers.{i}.self_attn.o_proj", "decoder.layers.{i}.o"),
    ("model.layers.{i}.mlp.down_proj", "decoder.layers.{i}.down"),
)
QKV_RULES = fused("model.layers.{i}.self_attn.{}_proj", "decoder.layers.{i}.qkv", "qkv")
GATE_UP_RULES = fused("model.layers.{i}.mlp.{}_proj", "decoder.layers.{i}.gate_up", ("gate", "up"))
LLAMA_RULES = OUTER_RULES + NORM_RULES + DOWN_RULES + QKV_RULES + GATE_UP_RULES


def read(section: ConfigSection) -> DecoderSpec:
    """Read a LlamaConfig."""
    bias = section.flag("attention_bias", False)
    return read_llama_like(
        section, DEFAULTS, qkv_bias=bias, o_bias=bias, mlp_bias=section.flag("mlp_bias", False)
    )


LLAMA = Decoder(name="llama", architecture="LlamaForCausalLM", read=read, rules=LLAMA_RULES)
