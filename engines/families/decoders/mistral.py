"""Mistral: Llama's names, and a window over the last tokens in the first release."""

from engines.families.config_section import ConfigSection
from engines.families.decoders.decoder import Decoder, Defaults, read_llama_like
from engines.families.decoders.llama import LLAMA_RULES
from engines.spec import DecoderSpec

# Of transformers' MistralConfig.
DEFAULTS = Defaults(
    vocab=32000, hidden=4096, ffn=14336, layers=32, heads=32, kv_heads=8, max_positions=131072, norm_eps=1e-6
)
WINDOW = 4096  # tokens, where config.json has no such key; null is none


def read(section: ConfigSection) -> DecoderSpec:
    """Read a MistralConfig."""
    window = section.values.get("sliding_window", WINDOW)
    if window is not None:
        window = section.integer("sliding_window", WINDOW)
    return read_llama_like(section, DEFAULTS, sliding_window=window)


MISTRAL = Decoder(name="mistral", architecture="MistralForCausalLM", read=read, rules=LLAMA_RULES)
