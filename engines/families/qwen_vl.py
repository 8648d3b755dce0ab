"""Qwen-VL and Qwen-VL-Chat: ViT-bigG at 448 pixels, a resampler of 256 queries, Qwen-7B. Also Qwen alone.

Source of keys, defaults and names: the release's configuration_qwen.py, modeling_qwen.py and visual.py.
"""

from engines.families.clip_config import MEAN, STD
from engines.families.config_section import ConfigSection
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.spec import DecoderSpec, ModelSpec, RopeSpec, VisionSpec
from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.pixels.fixed_square_spec import FixedSquareSpec
from engines.vision.projectors.resampler_spec import HEAD_DIM, ResamplerSpec
from engines.vision.towers.clip_vit_spec import ClipVitSpec
from engines.weights.rules import KINDS, NameRules, Rule, layers, rows

TABLE = 16  # the position table of the tower is always of 16 x 16 rows

LAYER, OURS = "transformer.h.{i}.", "decoder.layers.{i}."
DECODER_RULES = (
    *rows(
        ("transformer.wte.weight", "decoder.embed.weight"),
        ("transformer.ln_f.weight", "decoder.norm.weight"),
        ("lm_head.weight", "decoder.head.weight"),
        (LAYER + "ln_1.weight", OURS + "attention_norm.weight"),
        (LAYER + "ln_2.weight", OURS + "ffn_norm.weight"),
        (LAYER + "attn.c_attn.weight", OURS + "qkv.weight"),
        (LAYER + "attn.c_attn.bias", OURS + "qkv.bias"),
        (LAYER + "attn.c_proj.weight", OURS + "o.weight"),
        (LAYER + "mlp.c_proj.weight", OURS + "down.weight"),
    ),
    Rule(source=LAYER + "mlp.w2.weight", target=OURS + "gate_up.weight", block="gate"),
    Rule(source=LAYER + "mlp.w1.weight", target=OURS + "gate_up.weight", block="up"),
)

VISUAL = "transformer.visual."
BLOCK, POOL = VISUAL + "transformer.resblocks.{i}.", VISUAL + "attn_pool."
VISION_RULES = (
    *rows(
        (VISUAL + "conv1.weight", "vision.patch.weight"),
        (VISUAL + "positional_embedding", "vision.positions"),
        (POOL + "query", "projector.query"),
        (POOL + "pos_embed", "projector.positions"),
        (POOL + "kv_proj.weight", "projector.kv.weight"),
        (POOL + "attn.in_proj_weight", "projector.qkv.weight"),
        (POOL + "attn.in_proj_bias", "projector.qkv.bias"),
        (VISUAL + "proj", "projector.out"),
    ),
    *layers(
        (VISUAL + "ln_pre", "vision.pre_norm"),
        (BLOCK + "ln_1", "vision.layers.{i}.norm1"),
        (BLOCK + "ln_2", "vision.layers.{i}.norm2"),
        (BLOCK + "attn.out_proj", "vision.layers.{i}.o"),
        (BLOCK + "mlp.c_fc", "vision.layers.{i}.fc1"),
        (BLOCK + "mlp.c_proj", "vision.layers.{i}.fc2"),
        (POOL + "ln_q", "projector.norm_q"),
        (POOL + "ln_kv", "projector.norm_kv"),
        (POOL + "attn.out_proj", "projector.o"),
        (VISUAL + "ln_post", "projector.norm_out"),
    ),
    # Query, key and value of a head stand together.
    *(
        Rule(
            source=f"{BLOCK}attn.in_proj.{kind}",
            target=f"vision.layers.{{i}}.qkv.{kind}",
            layout="grouped_qkv",
        )
        for kind in KINDS
    ),
)


def read(section: ConfigSection) -> ModelSpec:
    """Read a QWenConfig."""
    decoder = _decoder(section)
    has_vision = section.values.get("visual") is not None
    return ModelSpec(
        family="qwen_vl",
        decoder_names="qwen",
        decoder=decoder,
        vision=_vision(section.nested("visual"), decoder.hidden) if has_vision else None,
        dtype=read_dtype(section),
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return the table."""
    return NameRules(rules=DECODER_RULES + VISION_RULES, ignored=("*.rotary_emb.inv_freq", "*.masked_bias"))


def _decoder(section: ConfigSection) -> DecoderSpec:
    hidden, heads = section.integer("hidden_size", 4096), section.integer("num_attention_heads", 32)
    trained = section.integer("seq_length", 2048)
    ffn = section.integer("intermediate_size", 22016)
    if ffn % 2:
        section.fault("intermediate_size", "must be even, it holds both halves of the FFN")
    section.must_be("rotary_pct", 1.0)
    section.must_be("scale_attn_weights", True)
    theta = section.number("rotary_emb_base", 10000.0)
    rope = RopeSpec(theta=theta)
    if section.flag("use_dynamic_ntk", True):
        rope = RopeSpec(theta=theta, kind="dynamic_steps", max_positions=trained)
    return DecoderSpec(
        num_layers=section.integer("num_hidden_layers", 32),
        hidden=hidden,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=section.integer("kv_channels", 128),
        ffn=ffn // 2,
        vocab=section.integer("vocab_size", 151936),
        norm_eps=section.number("layer_norm_epsilon", 1e-6),
        rope=rope,
        max_positions=section.integer("max_position_embeddings", 8192),
        qkv_bias=True,
        tied_head=section.flag("tie_word_embeddings", False),
        logn_length=trained if section.flag("use_logn_attn", True) else None,
    )


def _vision(section: ConfigSection, hidden: int) -> VisionSpec:
    image, patch = section.integer("image_size", 448), section.integer("patch_size", 14)
    width, heads = section.integer("width", 1664), section.integer("heads", 16)
    queries = section.integer("n_queries", 256)
    if section.integer("output_dim", hidden) != hidden or hidden % HEAD_DIM:
        section.fault("output_dim", f"must be hidden_size, {hidden}, and a multiple of {HEAD_DIM}")
    if width % heads:
        section.fault("heads", f"must divide width, {width}")
    if image % patch:
        section.fault("patch_size", f"must divide image_size, {image}")
    if round(queries**0.5) ** 2 != queries:
        section.fault("n_queries", "must be a square")
    return VisionSpec(
        towers=(
            ClipVitSpec(
                image=TABLE * patch,
                tile=image,
                patch=patch,
                hidden=width,
                num_layers=section.integer("layers", 48),
                num_heads=heads,
                ffn=int(width * section.number("mlp_ratio", 4.9231)),
                norm_eps=1e-6,
                activation="gelu",
                class_token=False,
                select_layer=-1,
            ),
        ),
        projector=ResamplerSpec(queries=queries, positions="stored"),
        pixels=FixedSquareSpec(image=image, mode="squash", mean=MEAN, std=STD),
        assembly=TilesSpec(rows_per_tile=queries),
    )


QWEN_VL = Family(
    name="qwen_vl",
    model_types=("qwen",),
    architectures=("QWenLMHeadModel",),
    read=read,
    rules=name_rules,
)
