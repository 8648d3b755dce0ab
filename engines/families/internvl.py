"""InternVL 1.5 and 2.0: InternViT, pixel shuffle, a two-layer MLP, and one of four decoders.

Source of keys, defaults and names: OpenGVLab/InternVL, internvl_chat/internvl/model. A key that is absent
takes the default of upstream's config class, which is not what the released files hold.
"""

from dataclasses import replace

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
from engines.weights.rules import NameRules, layers, prefixed, rows

# Keys and defaults of InternVisionConfig.
LAYOUT = Layout(
    qkv_bias="qkv_bias",
    qk_norm="qk_normalization",
    select_layer="select_layer",
    image=224,
    hidden=3200,
    num_layers=48,
    num_heads=25,
    ffn=12800,
    norm="rms_norm",
    has_qk_norm=True,
)

LAYER = "vision_model.encoder.layers.{i}."
TARGET = "vision.layers.{i}."

VISION_RULES = (
    *rows(
        ("vision_model.embeddings.class_embedding", "vision.class_token"),
        ("vision_model.embeddings.position_embedding", "vision.positions"),
        (LAYER + "ls1", TARGET + "scale1"),
        (LAYER + "ls2", TARGET + "scale2"),
    ),
    *layers(
        ("vision_model.embeddings.patch_embedding", "vision.patch"),
        (LAYER + "attn.qkv", TARGET + "qkv"),
        (LAYER + "attn.q_norm", TARGET + "q_norm"),
        (LAYER + "attn.k_norm", TARGET + "k_norm"),
        (LAYER + "attn.proj", TARGET + "o"),
        (LAYER + "mlp.fc1", TARGET + "fc1"),
        (LAYER + "mlp.fc2", TARGET + "fc2"),
        (LAYER + "norm1", TARGET + "norm1"),
        (LAYER + "norm2", TARGET + "norm2"),
        ("mlp1.0", "projector.norm"),
        ("mlp1.1", "projector.fc1"),
        ("mlp1.3", "projector.fc2"),
    ),
)


def read(section: ConfigSection) -> ModelSpec:
    """Read an InternVLChatConfig."""
    names, decoder = read_decoder(section.nested("llm_config"))
    return ModelSpec(
        family="internvl",
        decoder_names=names,
        decoder=decoder,
        vision=_vision(section, section.nested("vision_config")),
        dtype=read_dtype(section, section.nested("llm_config")),
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return the table for the decoder that this checkpoint has."""
    language = prefixed(decoder_rules(spec.decoder_names), source="language_model.")
    return NameRules(rules=VISION_RULES + language, ignored=("*.inv_freq", "*.position_ids"))


def _vision(section: ConfigSection, tower_section: ConfigSection) -> VisionSpec:
    tower = read_intern_vit(tower_section, LAYOUT, select_layer=section.signed("select_layer", -1))
    pixels = _pixels(section, image=section.integer("force_image_size", tower.image))
    if pixels.image % tower.patch:
        section.fault("force_image_size", f"must be a multiple of patch_size, {tower.patch}")
    grid = pixels.image // tower.patch
    factor = shuffle_factor(section, grid=grid)
    return VisionSpec(
        towers=(replace(tower, tile=pixels.image),),
        projector=PixelShuffleMlpSpec(
            factor=factor, shuffle_version=section.choice("ps_version", {"v1": "v1", "v2": "v2"}, "v1")
        ),
        pixels=pixels,
        assembly=TilesSpec(rows_per_tile=(grid // factor) ** 2),
        video=frames("segments"),
    )


def _pixels(section: ConfigSection, *, image: int) -> DynamicTilesSpec:
    min_tiles = section.integer("min_dynamic_patch", 1)
    max_tiles = section.integer("max_dynamic_patch", 6)
    if min_tiles > max_tiles:
        section.fault("min_dynamic_patch", f"must not be above max_dynamic_patch, {max_tiles}")
    dynamic = section.flag("dynamic_image_size", False)
    return DynamicTilesSpec(
        image=image,
        min_tiles=min_tiles if dynamic else 1,
        max_tiles=max_tiles if dynamic else 1,
        thumbnail=section.flag("use_thumbnail", False),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


INTERNVL = Family(
    name="internvl",
    model_types=("internvl_chat",),
    architectures=("InternVLChatModel",),
    read=read,
    rules=name_rules,
)
