"""CogVLM and CogVLM2: EVA2-CLIP, and a Llama with visual experts.

The two have one architecture name; the second has `num_multi_query_heads` in its config, a convolution behind
its tower and biases in its visual experts. Each checkpoint brings its rotary frequencies.

Source of keys, defaults and names: the releases' configuration_cogvlm.py, modeling_cogvlm.py and visual.py.
"""

from engines.families.config_section import ConfigSection
from engines.families.dtype import read_dtype
from engines.families.eva_clip_config import eva_clip_rules, read_eva_clip, squashed_square
from engines.families.family import Family
from engines.spec import DecoderSpec, ModelSpec, RopeSpec, VisionSpec
from engines.vision.assembly.framed_spec import FramedSpec
from engines.vision.projectors.gated_mlp_spec import GatedMlpSpec
from engines.weights.rules import NameRules, fused, layers, rows

THETA, THETA_2 = 10000.0, 500000.0
# Upstream puts the padding id into prompts; what stands there is never embedded.
SLOT_ID = 0

LAYER, OURS = "model.layers.{i}.", "decoder.layers.{i}."
EXPERTS = (("language", ""), ("vision", "vision_"))
DECODER_RULES = (
    *rows(
        ("model.embed_tokens.weight", "decoder.embed.weight"),
        ("model.norm.weight", "decoder.norm.weight"),
        ("lm_head.weight", "decoder.head.weight"),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "decoder.rope.inverse"),
        (LAYER + "input_layernorm.weight", OURS + "attention_norm.weight"),
        (LAYER + "post_attention_layernorm.weight", OURS + "ffn_norm.weight"),
    ),
    *(
        rule
        for expert, prefix in EXPERTS
        for rule in (
            *layers(
                (f"{LAYER}self_attn.{expert}_expert_query_key_value", f"{OURS}{prefix}qkv"),
                (f"{LAYER}self_attn.{expert}_expert_dense", f"{OURS}{prefix}o"),
                (f"{LAYER}mlp.{expert}_mlp.down_proj", f"{OURS}{prefix}down"),
            ),
            *fused(f"{LAYER}mlp.{expert}_mlp.{{}}_proj", f"{OURS}{prefix}gate_up", ("gate", "up")),
        )
    ),
)
RULES = NameRules(
    rules=DECODER_RULES + eva_clip_rules("model.vision."),
    ignored=("model.layers.*.self_attn.rotary_emb.inv_freq",),  # the first layer's again
)


def read(section: ConfigSection) -> ModelSpec:
    """Read a CogVLMConfig."""
    is_second = section.values.get("num_multi_query_heads") is not None
    decoder = _decoder(section, is_second=is_second)
    tower = read_eva_clip(section.nested("vision_config"), merged=is_second)
    return ModelSpec(
        family="cogvlm",
        decoder_names="cogvlm",
        decoder=decoder,
        vision=VisionSpec(
            towers=(tower,),
            projector=GatedMlpSpec(ffn=decoder.ffn, merged="patch" if is_second else None),
            pixels=squashed_square(tower.image),
            assembly=FramedSpec(rows_per_tile=tower.side**2 // (4 if is_second else 1)),
            image_token_id=SLOT_ID,
        ),
        dtype=read_dtype(section),
    )


def _decoder(section: ConfigSection, *, is_second: bool) -> DecoderSpec:
    section.must_be("hidden_act", "silu")
    section.must_be("tie_word_embeddings", False)
    hidden, heads = section.integer("hidden_size", 4096), section.integer("num_attention_heads", 32)
    kv_heads = section.integer("num_multi_query_heads", heads)
    if hidden % heads:
        section.fault("hidden_size", f"must be a multiple of num_attention_heads, {heads}")
    if heads % kv_heads:
        section.fault("num_multi_query_heads", f"must divide num_attention_heads, {heads}")
    return DecoderSpec(
        kind="visual_experts",
        num_layers=section.integer("num_hidden_layers", 32),
        hidden=hidden,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=max(hidden // heads, 1),
        ffn=section.integer("intermediate_size", 11008),
        vocab=section.integer("vocab_size", 32000),
        norm_eps=section.number("rms_norm_eps", 1e-6),
        rope=RopeSpec(theta=THETA_2 if is_second else THETA),
        max_positions=section.integer("max_position_embeddings", 2048),
        vision_qkv_bias=is_second,
        positions="three_an_image",
    )


COGVLM = Family(
    name="cogvlm",
    model_types=("cogvlm",),
    architectures=("CogVLMForCausalLM",),
    read=read,
    rules=lambda _: RULES,
)
