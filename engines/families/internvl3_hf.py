"""InternVL3 and 3.5 in the layout of transformers: InternViT, pixel shuffle, a two-layer MLP, Qwen2 or Llama.

Source of keys, defaults and names: transformers, models/internvl. The original layout is `internvl.py`.
"""

from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules, read_decoder
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.families.intern_vit_config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Layout,
    frames,
    read_intern_vit,
    shuffle_factor,
)
from engines.spec import ModelSpec, VisionSpec
from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec
from engines.vision.projectors.pixel_shuffle_mlp_spec import PixelShuffleMlpSpec
from engines.weights.rules import NameRules, fused, layers, prefixed, rows

# Keys and defaults of InternVLVisionConfig.
LAYOUT = Layout(
    qkv_bias="attention_bias",
    qk_norm="use_qk_norm",
    select_layer="vision_feature_layer",
    image=448,
    hidden=1024,
    num_layers=24,
    num_heads=16,
    ffn=4096,
    norm="layer_norm",
    has_qk_norm=False,
)

LAYER = "vision_tower.encoder.layer.{i}."
TARGET = "vision.layers.{i}."
MAX_TILES = 12  # of upstream's processor; config.json has no such key

VISION_RULES = (
    *rows(
        ("vision_tower.embeddings.cls_token", "vision.class_token"),
        ("vision_tower.embeddings.position_embeddings", "vision.positions"),
        (LAYER + "lambda_1", TARGET + "scale1"),
        (LAYER + "lambda_2", TARGET + "scale2"),
    ),
    *layers(
        ("vision_tower.embeddings.patch_embeddings.projection", "vision.patch"),
        (LAYER + "attention.q_norm", TARGET + "q_norm"),
        (LAYER + "attention.k_norm", TARGET + "k_norm"),
        (LAYER + "attention.projection_layer", TARGET + "o"),
        (LAYER + "mlp.fc1", TARGET + "fc1"),
        (LAYER + "mlp.fc2", TARGET + "fc2"),
        (LAYER + "layernorm_before", TARGET + "norm1"),
        (LAYER + "layernorm_after", TARGET + "norm2"),
        ("multi_modal_projector.layer_norm", "projector.norm"),
        ("multi_modal_projector.linear_1", "projector.fc1"),
        ("multi_modal_projector.linear_2", "projector.fc2"),
    ),
    *fused(LAYER + "attention.{}_proj", TARGET + "qkv", "qkv"),
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
    section.must_be("projector_hidden_act", "gelu")
    section.must_be("vision_feature_select_strategy", "default")
    tower_section.must_be("use_mean_pooling", True, why="a norm behind the last layer is not supported")
    select_layer = section.signed("vision_feature_layer", -1)
    tower = read_intern_vit(tower_section, LAYOUT, select_layer=select_layer)
    grid = tower.image // tower.patch
    factor = shuffle_factor(section, grid=grid)
    rows_per_tile = (grid // factor) ** 2
    section.must_be("image_seq_length", rows_per_tile, why="the rows of a tile")
    return VisionSpec(
        towers=(tower,),
        projector=PixelShuffleMlpSpec(factor=factor),
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
        video=frames("middles"),
    )


INTERNVL3_HF = Family(
    name="internvl3_hf",
    model_types=("internvl",),
    architectures=("InternVLForConditionalGeneration",),
    read=read,
    rules=name_rules,
)
