"""Phi-3: Llama's names, with q, k, v and gate, up stored in one tensor each."""

from engines.families.config_section import ConfigSection
from engines.families.decoders.decoder import Decoder, Defaults, read_llama_like
from engines.families.decoders.llama import DOWN_RULES, NORM_RULES, OUTER_RULES
from engines.spec import DecoderSpec
from engines.weights.rules import rows

# Of transformers' Phi3Config.
DEFAULTS = Defaults(
    vocab=32064, hidden=3072, ffn=8192, layers=32, heads=32, kv_heads=None, max_positions=4096, norm_eps=1e-5
)

FUSED_RULES = rows(
    ("model.layers.{i}.self_attn.qkv_proj.weight", "decoder.layers.{i}.qkv.weight"),
    ("model.layers.{i}.mlp.gate_up_proj.weight", "decoder.layers.{i}.gate_up.weight"),
)


def read(section: ConfigSection) -> DecoderSpec:
    """Read a Phi3Config."""
    window = section.integer("sliding_window") if section.values.get("sliding_window") is not None else None
    return read_llama_like(section, DEFAULTS, sliding_window=window)


PHI3 = Decoder(
    name="phi3",
    architecture="Phi3ForCausalLM",
    read=read,
    rules=OUTER_RULES + NORM_RULES + DOWN_RULES + FUSED_RULES,
)
