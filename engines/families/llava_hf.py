"""LLaVA-1.5 and 1.6 in the layout of transformers: nested configs, the tower inside, two spellings of names.

Source of keys, defaults and names: huggingface/transformers, models/llava and models/llava_next.
"""

from engines.families.clip_config import MEAN, STD, read_clip
from engines.families.clip_names import clip_rules, unused
from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules, read_decoder
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.families.llava import anyres_canvases, anyres_pixels
from engines.spec import ModelSpec, VisionSpec
from engines.vision.assembly.anyres_spec import AnyresRowsSpec
from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.parts import AssemblySpec, PixelSpec
from engines.vision.pixels.fixed_square_spec import FixedSquareSpec
from engines.vision.projectors.mlp_spec import MlpSpec
from engines.vision.towers.clip_vit_spec import ClipVitSpec
from engines.weights.rules import NameRules, layers, prefixed, rows

TOWER = "vision_tower.vision_model."
PROJECTOR_RULES = (
    *layers(
        ("multi_modal_projector.linear_1", "projector.fc1"),
        ("multi_modal_projector.linear_2", "projector.fc2"),
    ),
    *rows(("image_newline", "newline")),
)
# Of checkpoints that transformers 4.52 or later wrote.
SPELLINGS = (
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("model.image_newline", "image_newline"),
)


def read(section: ConfigSection) -> ModelSpec:
    """Read a LlavaConfig or LlavaNextConfig."""
    text = section.nested("text_config")
    names, decoder = read_decoder(text)
    return ModelSpec(
        family="llava_hf",
        decoder_names=names,
        decoder=decoder,
        vision=_vision(section),
        dtype=read_dtype(section, text),
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return the table in the spelling of the published checkpoints."""
    language = prefixed(decoder_rules(spec.decoder_names), source="language_model.")
    return NameRules(
        rules=(*clip_rules(TOWER), *PROJECTOR_RULES, *language),
        ignored=("*.inv_freq", *unused(TOWER)),
        spellings=SPELLINGS,
    )


def _vision(section: ConfigSection) -> VisionSpec:
    section.must_be("projector_hidden_act", "gelu")
    section.must_be("vision_feature_select_strategy", "default")
    tower = read_clip(
        section.nested("vision_config"),
        select_layer=section.signed("vision_feature_layer", -2),
        keep_class_token=False,
    )
    pixels, assembly = _pictures(section, tower)
    key = "image_token_id" if "image_token_id" in section.values else "image_token_index"
    return VisionSpec(
        towers=(tower,),
        projector=MlpSpec(),
        pixels=pixels,
        assembly=assembly,
        image_token_id=section.integer(key),
    )


def _pictures(section: ConfigSection, tower: ClipVitSpec) -> tuple[PixelSpec, AssemblySpec]:
    side = tower.image // tower.patch
    if "image_grid_pinpoints" not in section.values:
        square = FixedSquareSpec(image=tower.image, mode="crop", mean=MEAN, std=STD)
        return square, TilesSpec(rows_per_tile=side**2)
    canvases = anyres_canvases(section, "image_grid_pinpoints", height_first=True, side=tower.image)
    return anyres_pixels(canvases, tower.image), AnyresRowsSpec(
        side=side, merge="unpad", rounding="seven_digits"
    )


LLAVA_HF = Family(
    name="llava_hf",
    model_types=("llava", "llava_next"),
    architectures=("LlavaForConditionalGeneration", "LlavaNextForConditionalGeneration"),
    read=read,
    rules=name_rules,
)
