"""Qwen2 and Qwen2.5: Llama's names, with biases on q, k and v."""

from engines.families.config_section import ConfigSection
from engines.families.decoders.decoder import Decoder, Defaults, read_llama_like
from engines.families.decoders.llama import LLAMA_RULES
from engines.spec import DecoderSpec

# Of transformers' Qwen2Config.
DEFAULTS = Defaults(
    vocab=151936, hidden=4096, ffn=22016, layers=32, heads=32, kv_heads=32, max_positions=32768, norm_eps=1e-6
)


def read(section: ConfigSection) -> DecoderSpec:
    """Read a Qwen2Config."""
    section.must_be("use_sliding_window", False, why="windows on some layers only are not supported")
    return read_llama_like(section, DEFAULTS, qkv_bias=True)


QWEN2 = Decoder(name="qwen2", architecture="Qwen2ForCausalLM", read=read, rules=LLAMA_RULES)
