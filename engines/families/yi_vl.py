"""Yi-VL: LLaVA's original layout with norms in the projector and a CLIP ViT-H in a subfolder.

Source: 01-ai/Yi, VL/llava/model.
"""

from engines.families.clip_names import clip_rules
from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules
from engines.families.decoders.llama import LLAMA
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.families.llava import IGNORED, SLOT_ID, TOWER, padded_square, read_tower, tower_companion
from engines.spec import ModelSpec, VisionSpec
from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.projectors.mlp_spec import MlpSpec
from engines.weights.rules import NameRules, layers

PROJECTOR_RULES = layers(
    ("model.mm_projector.0", "projector.fc1"),
    ("model.mm_projector.1", "projector.norm1"),
    ("model.mm_projector.3", "projector.fc2"),
    ("model.mm_projector.4", "projector.norm2"),
)


def read(section: ConfigSection) -> ModelSpec:
    """Read a LlavaConfig whose projector has norms."""
    section.must_be("mm_projector_type", "mlp2x_gelu_Norm")
    tower = read_tower(section)
    vision = VisionSpec(
        towers=(tower,),
        projector=MlpSpec(norms=True),
        pixels=padded_square(section, tower.image),
        assembly=TilesSpec(rows_per_tile=(tower.image // tower.patch) ** 2),
        image_token_id=SLOT_ID,
    )
    return ModelSpec(
        family="yi_vl",
        decoder_names=LLAMA.name,
        decoder=LLAMA.read(section),
        vision=vision,
        dtype=read_dtype(section),
        companions=(tower_companion(section),),
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return the table."""
    tower = clip_rules(TOWER + "vision_model.")
    return NameRules(rules=tower + PROJECTOR_RULES + decoder_rules(spec.decoder_names), ignored=IGNORED)


YI_VL = Family(
    name="yi_vl",
    model_types=(),
    architectures=("LlavaLlamaForCausalLM",),
    read=read,
    rules=name_rules,
    applies=lambda config: "_Norm" in str(config.get("mm_projector_type")),
)
