"""DeepSeek-VL: SigLIP alone (1.3B), or SAM at high and SigLIP at low resolution (7B), and a Llama.

config.json names the towers and leaves their sizes to code. Source of keys, sizes, defaults and names:
deepseek-ai/DeepSeek-VL, deepseek_vl/models.
"""

from collections.abc import Mapping
from typing import Any

from engines.families.clip_config import padding_colour
from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules
from engines.families.decoders.llama import LLAMA
from engines.families.deepseek_vl_names import VISION_IGNORED, vision_rules
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.families.hard_coded import stated
from engines.spec import ModelSpec, VisionSpec
from engines.vision.assembly.high_low_spec import HighLowSpec
from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.pixels.fixed_square_spec import FixedSquareSpec
from engines.vision.projectors.high_low_mlp_spec import HighLowMlpSpec
from engines.vision.projectors.mlp_spec import MlpSpec
from engines.vision.towers.clip_vit_spec import ClipVitSpec
from engines.vision.towers.sam_vit_spec import SamVitSpec
from engines.weights.rules import NameRules, prefixed

Triple = tuple[float, float, float]

# Upstream's siglip_vit.py and sam.py. A tiny checkpoint may bring a table of its own.
TABLES: Mapping[str, Mapping[str, Any]] = {
    "siglip_large_patch16_384": {"patch_size": 16, "width": 1024, "layers": 24, "heads": 16, "mlp_ratio": 4},
    "siglip_so400m_patch14_384": {
        "patch_size": 14, "width": 1152, "layers": 27, "heads": 16, "mlp_ratio": 3.7362
    },
    "sam_b_downsample": {
        "width": 768, "layers": 12, "heads": 12, "global_attn_indexes": [2, 5, 8, 11],
        "prompt_embed_dim": 256, "downsample_channels": [512, 1024],
    },
}  # fmt: skip
OWN_TABLE = "fixture_vision_tables"
NORM_EPS = 1e-6
SAM_PATCH, SAM_WINDOW, SAM_RESIZED = 16, 14, 96
HALF: Triple = (0.5, 0.5, 0.5)
NOTHING: Triple = (0.0, 0.0, 0.0)  # a tower of two without mean and std normalises nothing
ONE: Triple = (1.0, 1.0, 1.0)
GREY = (127, 127, 127)


def read(section: ConfigSection) -> ModelSpec:
    """Read a MultiModalityConfig."""
    language = section.nested("language_config")
    kinds = {"CLIPVisionTower": "single", "HybridVisionTower": "hybrid"}
    kind = section.nested("vision_config").choice("cls", kinds, "CLIPVisionTower")
    return ModelSpec(
        family="deepseek_vl",
        decoder_names=LLAMA.name,
        decoder=LLAMA.read(language),
        vision=_hybrid(section) if kind == "hybrid" else _single(section),
        dtype=read_dtype(section, language),
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return the table for one tower or two."""
    assert spec.vision is not None
    language = prefixed(decoder_rules(spec.decoder_names), source="language_model.")
    return NameRules(rules=vision_rules(spec.vision) + language, ignored=("*.inv_freq", *VISION_IGNORED))


def _single(section: ConfigSection) -> VisionSpec:
    params = section.nested("vision_config").nested("params")
    tower = _siglip(section, params)
    aligner = section.nested("aligner_config").nested("params")
    aligner.must_be("projector_type", "mlp_gelu")
    processor = section.beside("preprocessor_config.json")
    mean, std = (
        HALF if processor is None else _triple(processor, key, HALF) for key in ("image_mean", "image_std")
    )
    return VisionSpec(
        towers=(tower,),
        projector=MlpSpec(depth=aligner.integer("depth", 1)),
        pixels=FixedSquareSpec(
            image=tower.image, mode="fit", background=_background(processor), mean=mean, std=std
        ),
        assembly=TilesSpec(rows_per_tile=(tower.image // tower.patch) ** 2),
    )


def _hybrid(section: ConfigSection) -> VisionSpec:
    params = section.nested("vision_config").nested("params")
    high, low = params.nested("high_res_cfg"), params.nested("low_res_cfg")
    params.must_be("concat_type", "tuple")
    aligner = section.nested("aligner_config").nested("params")
    aligner.must_be("projector_type", "low_high_hybrid_split_mlp_gelu")
    if aligner.integer("depth", 1) != 2:  # 1 where there is no such key
        aligner.fault("depth", "must be 2")
    sam, siglip = _sam(section, high), _siglip(section, low)
    rows = (siglip.image // siglip.patch) ** 2
    if rows != (sam.resized // 4) ** 2:
        low.fault(
            "image_size", f"must give the {(sam.resized // 4) ** 2} tokens of the other tower, not {rows}"
        )
    if sam.hidden != siglip.hidden:
        low.fault("model_name", f"must be as wide as the other tower, {sam.hidden}")
    return VisionSpec(
        towers=(sam, siglip),
        projector=HighLowMlpSpec(),
        pixels=FixedSquareSpec(
            image=sam.image,
            mode="fit",
            background=_background(section.beside("preprocessor_config.json")),
            mean=_triple(high, "pixel_mean", NOTHING),
            std=_triple(high, "pixel_std", ONE),
        ),
        assembly=HighLowSpec(
            rows=rows,
            low_image=siglip.image,
            low_mean=_triple(low, "pixel_mean", NOTHING),
            low_std=_triple(low, "pixel_std", ONE),
        ),
    )


def _siglip(section: ConfigSection, params: ConfigSection) -> ClipVitSpec:
    table = _table(section, params, "siglip_large_patch16_384")
    image, patch, width = params.integer("image_size"), table.integer("patch_size"), table.integer("width")
    last = params.signed("select_layer", -1)
    num_layers = table.integer("layers") + last + 1  # upstream builds no layer behind the one it takes
    if last >= 0 or num_layers < 1:
        params.fault("select_layer", "must count from the last layer, -1")
    return ClipVitSpec(
        image=image,
        patch=patch,
        hidden=width,
        num_layers=max(num_layers, 1),
        num_heads=table.integer("heads"),
        ffn=int(width * table.number("mlp_ratio")),
        norm_eps=NORM_EPS,
        activation="gelu",
        class_token=False,
        patch_bias=True,
        pre_norm=False,
        post_norm=True,
        select_layer=-1,
    )


def _sam(section: ConfigSection, params: ConfigSection) -> SamVitSpec:
    table = _table(section, params, "sam_b_downsample")
    width, image = table.integer("width"), params.integer("image_size")
    channels = table.integers("downsample_channels")
    if len(channels) != 2:
        table.fault("downsample_channels", "must be of two halvings")
    if params.signed("select_layer", -1) != -1:
        params.fault("select_layer", "must be -1")
    if image % SAM_PATCH:
        params.fault("image_size", f"must be a multiple of {SAM_PATCH}")
    return SamVitSpec(
        image=image,
        patch=SAM_PATCH,
        width=width,
        hidden=channels[-1],
        num_layers=table.integer("layers"),
        num_heads=table.integer("heads"),
        ffn=4 * width,
        norm_eps=NORM_EPS,
        window=SAM_WINDOW,
        global_layers=table.integers("global_attn_indexes", least=0),
        neck=table.integer("prompt_embed_dim"),
        halved=channels[0],
        resized=SAM_RESIZED,
    )


def _table(section: ConfigSection, params: ConfigSection, default: str) -> ConfigSection:
    """Return the sizes of the tower that `model_name` names."""
    own = stated(section, OWN_TABLE, {})
    name = params.choice("model_name", {known: known for known in (*TABLES, *own.values)}, default)
    return own.nested(name) if name in own.values else params.made("model_name", TABLES[name])


def _triple(section: ConfigSection, key: str, default: Triple) -> Triple:
    if section.values.get(key) is None:
        return default
    red, green, blue = section.numbers(key, 3)
    return red, green, blue


def _background(processor: ConfigSection | None) -> tuple[int, int, int]:
    """Return the colour around a picture: the processor's mean, grey where it has none."""
    if processor is None or processor.values.get("image_mean") is None:
        return GREY
    return padding_colour(_triple(processor, "image_mean", HALF))


DEEPSEEK_VL = Family(
    name="deepseek_vl",
    model_types=("multi_modality",),
    architectures=("MultiModalityCausalLM",),
    read=read,
    rules=name_rules,
)
