"""Phi-3-vision: CLIP-L at 336 pixels on a grid of tiles, learned separators, a two-layer MLP, Phi-3.

Source of keys and names: the release's modeling_phi3_v.py and image_embedding_phi3_v.py. The tower's sizes
stand in its code; `fixture_clip_vision_config` states others.
"""

from engines.families.clip_config import LARGE_336, MEAN, STD, read_clip
from engines.families.clip_names import clip_rules, unused
from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules
from engines.families.decoders.phi3 import PHI3
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.families.hard_coded import stated
from engines.spec import ModelSpec, VisionSpec
from engines.vision.assembly.hd_grid_spec import JOINED, HdGridSpec
from engines.vision.pixels.hd_image_spec import HdImageSpec
from engines.vision.projectors.mlp_spec import MlpSpec
from engines.weights.rules import NameRules, Rule, layers

VISION = "model.vision_embed_tokens."
TOWER = VISION + "img_processor.vision_model."
NUM_CROPS = 16  # of preprocessor_config.json, in the release

OUTER_RULES = (
    *layers(
        (VISION + "img_projection.0", "projector.fc1"),
        (VISION + "img_projection.2", "projector.fc2"),
    ),
    Rule(source=VISION + "sub_GN", target="assembly.newline", layout="reshaped"),
    Rule(source=VISION + "glb_GN", target="assembly.between_views", layout="reshaped"),
)


def read(section: ConfigSection) -> ModelSpec:
    """Read a Phi3VConfig."""
    return ModelSpec(
        family="phi3_vision",
        decoder_names=PHI3.name,
        decoder=PHI3.read(section),
        vision=_vision(section),
        dtype=read_dtype(section),
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return the table; the word embedding may be listed a second time below the vision part."""
    return NameRules(
        rules=clip_rules(TOWER) + OUTER_RULES + decoder_rules(spec.decoder_names),
        ignored=(*unused(TOWER), VISION + "wte.weight", "*.inv_freq"),
    )


def _vision(section: ConfigSection) -> VisionSpec:
    processor = section.nested("img_processor")
    processor.must_be("name", "clip_vision_model")
    processor.must_be("type_feature", "patch")
    layout = stated(section, "embd_layer", {})
    layout.must_be("hd_transform_order", "sub_glb")
    tower = read_clip(
        stated(section, "fixture_clip_vision_config", LARGE_336),
        select_layer=processor.signed("layer_idx", -2),
        keep_class_token=False,
    )
    if tower.image // tower.patch % 2:
        section.fault("fixture_clip_vision_config", "must have an even number of patches a side")
    beside = section.beside("preprocessor_config.json")
    return VisionSpec(
        towers=(tower,),
        projector=MlpSpec(joined=JOINED),
        pixels=HdImageSpec(
            tile=tower.image,
            max_tiles=NUM_CROPS if beside is None else beside.integer("num_crops", NUM_CROPS),
            may_enlarge=True,
            pad="around",
            mean=MEAN,
            std=STD,
        ),
        assembly=HdGridSpec(cells=tower.image // tower.patch // 2, global_first=False),
    )


PHI3_VISION = Family(
    name="phi3_vision",
    model_types=("phi3_v",),
    architectures=("Phi3VForCausalLM",),
    read=read,
    rules=name_rules,
)
