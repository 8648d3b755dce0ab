"""GLM-4V-9B: EVA2-CLIP, and GLM-4, a Llama that turns half of each head.

Source of keys, defaults and names: the release's configuration_chatglm.py, modeling_chatglm.py and visual.py.
"""

from engines.families.config_section import ConfigSection
from engines.families.dtype import read_dtype
from engines.families.eva_clip_config import eva_clip_rules, read_eva_clip, squashed_square
from engines.families.family import Family
from engines.spec import DecoderSpec, ModelSpec, RopeSpec, VisionSpec
from engines.vision.assembly.framed_spec import FramedSpec
from engines.vision.projectors.gated_mlp_spec import GatedMlpSpec
from engines.weights.rules import NameRules, Rule, rows

THETA = 10000.0
END_OF_TEXT = 151329  # what upstream writes where a picture's rows come
# What must be so: this is all that a released GLM-4 is.
FLAGS = {
    "rmsnorm": True,
    "post_layer_norm": True,
    "add_bias_linear": False,
    "original_rope": True,
    "apply_residual_connection_post_layernorm": False,
    "tie_word_embeddings": False,
}

LAYER, OURS = "transformer.encoder.layers.{i}.", "decoder.layers.{i}."
DECODER_RULES = rows(
    ("transformer.embedding.word_embeddings.weight", "decoder.embed.weight"),
    ("transformer.encoder.final_layernorm.weight", "decoder.norm.weight"),
    ("transformer.output_layer.weight", "decoder.head.weight"),
    (LAYER + "input_layernorm.weight", OURS + "attention_norm.weight"),
    (LAYER + "post_attention_layernorm.weight", OURS + "ffn_norm.weight"),
    (LAYER + "self_attention.dense.weight", OURS + "o.weight"),
    (LAYER + "mlp.dense_h_to_4h.weight", OURS + "gate_up.weight"),
    (LAYER + "mlp.dense_4h_to_h.weight", OURS + "down.weight"),
)


def read(section: ConfigSection) -> ModelSpec:
    """Read a ChatGLMConfig with a `vision_config`."""
    decoder = _decoder(section)
    pictures = section.nested("vision_config")
    tower = read_eva_clip(pictures, merged=True)
    return ModelSpec(
        family="glm4v",
        decoder_names="glm4",
        decoder=decoder,
        vision=VisionSpec(
            towers=(tower,),
            projector=GatedMlpSpec(ffn=decoder.ffn, merged="row"),
            pixels=squashed_square(tower.image),
            assembly=FramedSpec(
                rows_per_tile=tower.side**2 // 4, divisor=pictures.number("scaling_factor", 8.0)
            ),
            image_token_id=section.integer("pad_token_id", END_OF_TEXT),
        ),
        dtype=read_dtype(section),
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return the table; rotary pairs stand side by side in the checkpoint."""
    pairs = (spec.decoder.rope.rotary_dim or spec.decoder.head_dim) // 2
    qkv = tuple(
        Rule(
            source=f"{LAYER}self_attention.query_key_value.{kind}",
            target=f"{OURS}qkv.{kind}",
            rotary_pairs=pairs,
        )
        for kind in ("weight", "bias")
    )
    return NameRules(
        rules=DECODER_RULES + qkv + eva_clip_rules("transformer.vision."),
        ignored=("transformer.rotary_pos_emb.inv_freq",),  # upstream computes its table
    )


def _decoder(section: ConfigSection) -> DecoderSpec:
    for key, right in FLAGS.items():
        section.must_be(key, right)
    hidden, heads = section.integer("hidden_size", 4096), section.integer("num_attention_heads", 32)
    head_dim = section.integer("kv_channels", 128)
    is_grouped = section.flag("multi_query_attention", False)
    kv_heads = section.integer("multi_query_group_num", 1) if is_grouped else heads
    if heads % kv_heads:
        section.fault("multi_query_group_num", f"must divide num_attention_heads, {heads}")
    if head_dim % 4:
        section.fault("kv_channels", "must be a multiple of 4, half of it are rotary pairs")
    return DecoderSpec(
        num_layers=section.integer("num_layers", 28),
        hidden=hidden,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=section.integer("ffn_hidden_size", 13696),
        vocab=section.integer("padded_vocab_size", 65024),
        norm_eps=section.number("layernorm_epsilon", 1e-5),
        rope=RopeSpec(theta=THETA * section.number("rope_ratio", 1.0), rotary_dim=head_dim // 2),
        max_positions=section.integer("seq_length", 2048),
        qkv_bias=section.flag("add_qkv_bias", False),
        positions="three_an_image",
    )


GLM4V = Family(
    name="glm4v",
    model_types=("chatglm",),
    architectures=("ChatGLMModel",),
    read=read,
    rules=name_rules,
    applies=lambda config: config.get("vision_config") is not None,
)
