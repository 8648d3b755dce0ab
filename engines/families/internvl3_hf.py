"""InternVL3 and 3.5 in the layout of transformers: InternViT, pixel shuffle, a two-layer MLP, Qwen2 or Llama.

Source of keys, defaults and names: transformers, models/internvl. The original layout is `internvl.py`.
"""

from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules, read_decoder
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.families.internvl import FRAME_LABEL, IMAGENET_MEAN, IMAGENET_STD, NUM_FRAMES
from engines.spec import ModelSpec, VisionSpec
from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec
from engines.vision.projectors.pixel_shuffle_mlp_spec import PixelShuffleMlpSpec
from engines.vision.towers.intern_vit_spec import InternVitSpec
from engines.vision.video_spec import VideoSpec
from engines.weights.rules import NameRules, Rule, prefixed, rows

LAYER = "vision_tower.encoder.layer.{i}."
TARGET = "vision.layers.{i}."
MAX_TILES = 12  # of upstream's processor; config.json has no such key

VISION_RULES = (
    *rows(
        ("vision_tower.embeddings.cls_token", "vision.class_token"),
        ("vision_tower.embeddings.position_embeddings", "vision.positions"),
        ("vision_tower.embeddings.patch_embeddings.projection.weight", "vision.patch.weight"),
        ("vision_tower.embeddings.patch_embeddings.projection.bias", "vision.patch.bias"),
        (LAYER + "attention.q_norm.weight", TARGET + "q_norm.weight"),
        (LAYER + "attention.k_norm.weight", TARGET + "k_norm.weight"),
        (LAYER + "attention.projection_layer.weight", TARGET + "o.weight"),
        (LAYER + "attention.projection_layer.bias", TARGET + "o.bias"),
        (LAYER + "mlp.fc1.weight", TARGET + "fc1.weight"),
        (LAYER + "mlp.fc1.bias", TARGET + "fc1.bias"),
        (LAYER + "mlp.fc2.weight", TARGET + "fc2.weight"),
        (LAYER + "mlp.fc2.bias", TARGET + "fc2.bias"),
        (LAYER + "layernorm_before.weight", TARGET + "norm1.weight"),
        (LAYER + "layernorm_before.bias", TARGET + "norm1.bias"),
        (LAYER + "layernorm_after.weight", TARGET + "norm2.weight"),
        (LAYER + "layernorm_after.bias", TARGET + "norm2.bias"),
        (LAYER + "lambda_1", TARGET + "scale1"),
        (LAYER + "lambda_2", TARGET + "scale2"),
        ("multi_modal_projector.layer_norm.weight", "projector.norm.weight"),
        ("multi_modal_projector.layer_norm.bias", "projector.norm.bias"),
        ("multi_modal_projector.linear_1.weight", "projector.fc1.weight"),
        ("multi_modal_projector.linear_1.bias", "projector.fc1.bias"),
        ("multi_modal_projector.linear_2.weight", "projector.fc2.weight"),
        ("multi_modal_projector.linear_2.bias", "projector.fc2.bias"),
    ),
    *(
        Rule(source=f"{LAYER}attention.{block}_proj.{kind}", target=f"{TARGET}qkv.{kind}", block=block)
        for block in ("q", "k", "v")
        for kind in ("weight", "bias")
    ),
)
# As newer versions of transformers save it.
SPELLINGS = (
    ("model.language_model.", "language_model.model."),
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("lm_head.", "language_model.lm_head."),
)


def read(section: ConfigSection) -> ModelSpec:
    """Read an InternVLConfig."""
    text = section.nested("text_config")
    names, decoder = read_decoder(text)
    return ModelSpec(
        family="internvl3_hf",
        decoder_names=names,
        decoder=decoder,
        vision=_vision(section, section.nested("vision_config")),
        dtype=read_dtype(section, text),
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return the table for the decoder that this checkpoint has."""
    language = prefixed(decoder_rules(spec.decoder_names), source="language_model.")
    return NameRules(
        rules=VISION_RULES + language, ignored=("*.inv_freq", "*.position_ids"), spellings=SPELLINGS
    )


def _vision(section: ConfigSection, tower_section: ConfigSection) -> VisionSpec:
    section.choice("projector_hidden_act", {"gelu": "gelu"}, "gelu")
    section.choice("vision_feature_select_strategy", {"default": "default"}, "default")
    tower = _tower(tower_section, select_layer=section.signed("vision_feature_layer", -1))
    downsample = section.number("downsample_ratio", 0.5)
    factor, grid = round(1 / downsample), tower.image // max(tower.patch, 1)
    if tower.image % tower.patch or abs(factor * downsample - 1) > 1e-6 or grid % factor:
        section.fault("downsample_ratio", f"must be 1/n where n divides the {grid} patches of a side")
    rows_per_tile = (grid // factor) ** 2
    if section.integer("image_seq_length", rows_per_tile) != rows_per_tile:
        section.fault("image_seq_length", f"must be the rows of a tile, {rows_per_tile}")
    return VisionSpec(
        towers=(tower,),
        projector=PixelShuffleMlpSpec(downsample=downsample),
        pixels=DynamicTilesSpec(
            image=tower.image,
            min_tiles=1,
            max_tiles=MAX_TILES,
            thumbnail=True,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        ),
        assembly=TilesSpec(rows_per_tile=rows_per_tile, before="<img>", after="</img>"),
        image_token_id=section.integer("image_token_id", 151667),
        video=VideoSpec(choice="middles", label=FRAME_LABEL, num_frames=NUM_FRAMES),
    )


def _tower(section: ConfigSection, *, select_layer: int) -> InternVitSpec:
    section.choice("hidden_act", {"gelu": "gelu"}, "gelu")
    norm = section.choice("norm_type", {"layer_norm": "layer_norm", "rms_norm": "rms_norm"}, "layer_norm")
    if not section.flag("use_mean_pooling", True):
        section.fault("use_mean_pooling", "must be true: a norm behind the last layer is not supported")
    hidden, num_heads = section.integer("hidden_size", 1024), section.integer("num_attention_heads", 16)
    if hidden % num_heads:
        section.fault("num_attention_heads", f"must divide hidden_size, {hidden}")
    num_layers = section.integer("num_hidden_layers", 24)
    if not -num_layers - 1 <= select_layer <= num_layers:
        section.fault("num_hidden_layers", f"must cover vision_feature_layer, {select_layer}")
    return InternVitSpec(
        image=_side(section, "image_size", 448),
        patch=_side(section, "patch_size", 14),
        hidden=hidden,
        num_layers=num_layers,
        num_heads=num_heads,
        ffn=section.integer("intermediate_size", 4096),
        norm="layer_norm" if norm == "layer_norm" else "rms_norm",
        norm_eps=section.number("layer_norm_eps", 1e-6),
        qkv_bias=section.flag("attention_bias", False),
        qk_norm=section.flag("use_qk_norm", False),
        select_layer=select_layer,
    )


def _side(section: ConfigSection, key: str, default: int) -> int:
    """Return the side of a square that is written as a number or as a pair of equal ones."""
    if not isinstance(section.values.get(key), list):
        return section.integer(key, default)
    height, width = section.numbers(key, 2)
    if height != width or height != int(height):
        section.fault(key, "must be two equal whole numbers")
    return max(int(height), 1)


INTERNVL3_HF = Family(
    name="internvl3_hf",
    model_types=("internvl",),
    architectures=("InternVLForConditionalGeneration",),
    read=read,
    rules=name_rules,
)
