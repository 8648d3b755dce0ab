"""InternVL 1.5 and 2.0: InternViT, pixel shuffle, a two-layer MLP, and one of four decoders.

Source of keys, defaults and names: OpenGVLab/InternVL, internvl_chat/internvl/model. A key that is absent
takes the default of upstream's config class, which is not what the released files hold.
"""

from dataclasses import replace

from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules, read_decoder
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.spec import ModelSpec, VisionSpec
from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec
from engines.vision.projectors.pixel_shuffle_mlp_spec import PixelShuffleMlpSpec
from engines.vision.towers.intern_vit_spec import InternVitSpec
from engines.vision.video_spec import VideoSpec
from engines.weights.rules import NameRules, prefixed, rows

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Of a video, as the model cards of InternVL2 ask about one.
FRAME_LABEL = "Frame{}: "
NUM_FRAMES = 8

LAYER = "vision_model.encoder.layers.{i}."
TARGET = "vision.layers.{i}."

VISION_RULES = rows(
    ("vision_model.embeddings.class_embedding", "vision.class_token"),
    ("vision_model.embeddings.position_embedding", "vision.positions"),
    ("vision_model.embeddings.patch_embedding.weight", "vision.patch.weight"),
    ("vision_model.embeddings.patch_embedding.bias", "vision.patch.bias"),
    (LAYER + "attn.qkv.weight", TARGET + "qkv.weight"),
    (LAYER + "attn.qkv.bias", TARGET + "qkv.bias"),
    (LAYER + "attn.q_norm.weight", TARGET + "q_norm.weight"),
    (LAYER + "attn.k_norm.weight", TARGET + "k_norm.weight"),
    (LAYER + "attn.proj.weight", TARGET + "o.weight"),
    (LAYER + "attn.proj.bias", TARGET + "o.bias"),
    (LAYER + "mlp.fc1.weight", TARGET + "fc1.weight"),
    (LAYER + "mlp.fc1.bias", TARGET + "fc1.bias"),
    (LAYER + "mlp.fc2.weight", TARGET + "fc2.weight"),
    (LAYER + "mlp.fc2.bias", TARGET + "fc2.bias"),
    (LAYER + "norm1.weight", TARGET + "norm1.weight"),
    (LAYER + "norm1.bias", TARGET + "norm1.bias"),
    (LAYER + "norm2.weight", TARGET + "norm2.weight"),
    (LAYER + "norm2.bias", TARGET + "norm2.bias"),
    (LAYER + "ls1", TARGET + "scale1"),
    (LAYER + "ls2", TARGET + "scale2"),
    ("mlp1.0.weight", "projector.norm.weight"),
    ("mlp1.0.bias", "projector.norm.bias"),
    ("mlp1.1.weight", "projector.fc1.weight"),
    ("mlp1.1.bias", "projector.fc1.bias"),
    ("mlp1.3.weight", "projector.fc2.weight"),
    ("mlp1.3.bias", "projector.fc2.bias"),
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
    tower = _tower(tower_section, select_layer=section.signed("select_layer", -1))
    pixels = _pixels(section, image=section.integer("force_image_size", tower.image))
    downsample = section.number("downsample_ratio", 0.5)
    factor = round(1 / downsample)
    grid = pixels.image // tower.patch
    if pixels.image % tower.patch or abs(factor * downsample - 1) > 1e-6 or grid % factor:
        section.fault("downsample_ratio", f"must be 1/n where n divides the {grid} patches of a side")
    version = section.choice("ps_version", {"v1": "v1", "v2": "v2"}, "v1")
    return VisionSpec(
        towers=(replace(tower, tile=pixels.image),),
        projector=PixelShuffleMlpSpec(
            downsample=downsample,
            shuffle_version="v1" if version == "v1" else "v2",
        ),
        pixels=pixels,
        assembly=TilesSpec(rows_per_tile=(grid // factor) ** 2),
        video=VideoSpec(choice="segments", label=FRAME_LABEL, num_frames=NUM_FRAMES),
    )


def _tower(section: ConfigSection, *, select_layer: int) -> InternVitSpec:
    section.choice("hidden_act", {"gelu": "gelu"}, "gelu")
    norm = section.choice("norm_type", {"layer_norm": "layer_norm", "rms_norm": "rms_norm"}, "rms_norm")
    if section.integer("num_channels", 3) != 3:
        section.fault("num_channels", "must be 3")
    hidden, num_heads = section.integer("hidden_size", 3200), section.integer("num_attention_heads", 25)
    if hidden % num_heads:
        section.fault("num_attention_heads", f"must divide hidden_size, {hidden}")
    num_layers = section.integer("num_hidden_layers", 48)
    if not -num_layers - 1 <= select_layer <= num_layers:
        section.fault("num_hidden_layers", f"must cover select_layer, {select_layer}")
    return InternVitSpec(
        image=section.integer("image_size", 224),
        patch=section.integer("patch_size", 14),
        hidden=hidden,
        num_layers=num_layers,
        num_heads=num_heads,
        ffn=section.integer("intermediate_size", 12800),
        norm="layer_norm" if norm == "layer_norm" else "rms_norm",
        norm_eps=section.number("layer_norm_eps", 1e-6),
        qkv_bias=section.flag("qkv_bias", False),
        qk_norm=section.flag("qk_normalization", True),
        select_layer=select_layer,
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
