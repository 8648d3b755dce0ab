"""InternLM2 and InternLM2.5: names of its own, and q, k, v grouped by KV head in one tensor."""

from engines.families.config_section import ConfigSection
from engines.families.decoders.decoder import Decoder, Defaults, read_llama_like
from engines.spec import DecoderSpec
from engines.weights.rules import Rule, rows

# Of upstream's InternLM2Config.
DEFAULTS = Defaults(
    vocab=103168,
    hidden=4096,
    ffn=11008,
    layers=32,
    heads=32,
    kv_heads=None,
    max_positions=2048,
    norm_eps=1e-6,
)

LAYER = "model.layers.{i}."
TARGET = "decoder.layers.{i}."

RULES = (
    *rows(
        ("model.tok_embeddings.weight", "decoder.embed.weight"),
        ("model.norm.weight", "decoder.norm.weight"),
        ("output.weight", "decoder.head.weight"),
        (LAYER + "attention_norm.weight", TARGET + "attention_norm.weight"),
        (LAYER + "ffn_norm.weight", TARGET + "ffn_norm.weight"),
        (LAYER + "attention.wo.weight", TARGET + "o.weight"),
        (LAYER + "attention.wo.bias", TARGET + "o.bias"),
        (LAYER + "feed_forward.w2.weight", TARGET + "down.weight"),
    ),
    Rule(source=LAYER + "attention.wqkv.weight", target=TARGET + "qkv.weight", layout="grouped_qkv"),
    Rule(source=LAYER + "attention.wqkv.bias", target=TARGET + "qkv.bias", layout="grouped_qkv"),
    Rule(source=LAYER + "feed_forward.w1.weight", target=TARGET + "gate_up.weight", block="gate"),
    Rule(source=LAYER + "feed_forward.w3.weight", target=TARGET + "gate_up.weight", block="up"),
)


def read(section: ConfigSection) -> DecoderSpec:
    """Read an InternLM2Config; its `bias` (true where absent) is that of wqkv and wo."""
    bias = section.flag("bias", True)
    return read_llama_like(section, DEFAULTS, qkv_bias=bias, o_bias=bias)


INTERNLM2 = Decoder(name="internlm2", architecture="InternLM2ForCausalLM", read=read, rules=RULES)
