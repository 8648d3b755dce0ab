"""InternLM-XComposer2 and 2.5: CLIP-L, a two-layer MLP, InternLM2 with a partial LoRA on image rows.

2.0 looks at one square picture; 2.5 at a grid of tiles and the whole, with learned separators. Sizes that
config.json leaves to upstream's code may stand under `fixture_overrides`.

Source of names and sizes: the releases' modeling_internlm_xcomposer2.py and build_mlp.py.
"""

from dataclasses import replace

from engines.families.clip_config import LARGE_336, MEAN, STD, read_clip
from engines.families.clip_names import clip_rules, unused
from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules
from engines.families.decoders.internlm2 import INTERNLM2
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.families.hard_coded import stated
from engines.spec import ModelSpec, VisionSpec
from engines.vision.assembly.hd_grid_spec import JOINED, HdGridSpec
from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.pixels.fixed_square_spec import FixedSquareSpec
from engines.vision.pixels.hd_image_spec import HdImageSpec
from engines.vision.projectors.mlp_spec import MlpSpec
from engines.vision.towers.clip_vit_spec import ClipVitSpec
from engines.weights.rules import NameRules, Rule, layers, rows

TILE = 560  # pixels, 2.5
MAX_TILES, MAX_TILES_OF_SEVERAL = 24, 6
PLORA_RANK = 256

TOWER = "vit.vision_tower.vision_model."
LAYER, OURS = "model.layers.{i}.", "decoder.layers.{i}."

OUTER_RULES = (
    *layers(("vision_proj.0", "projector.fc1"), ("vision_proj.2", "projector.fc2")),
    Rule(source="plora_sub_GN", target="assembly.newline", layout="reshaped"),
    Rule(source="plora_glb_GN", target="assembly.between_views", layout="reshaped"),
)
PLORA_RULES = (
    *rows(
        (LAYER + "attention.wqkv.Plora_A.weight", OURS + "qkv.lora_a"),
        (LAYER + "attention.wo.Plora_A.weight", OURS + "o.lora_a"),
        (LAYER + "attention.wo.Plora_B.weight", OURS + "o.lora_b"),
        (LAYER + "feed_forward.w2.Plora_A.weight", OURS + "down.lora_a"),
        (LAYER + "feed_forward.w2.Plora_B.weight", OURS + "down.lora_b"),
    ),
    Rule(source=LAYER + "attention.wqkv.Plora_B.weight", target=OURS + "qkv.lora_b", layout="grouped_qkv"),
    *(
        Rule(
            source=f"{LAYER}feed_forward.{name}.Plora_{letter.upper()}.weight",
            target=f"{OURS}gate_up.lora_{letter}",
            block=block,
        )
        for name, block in (("w1", "gate"), ("w3", "up"))
        for letter in ("a", "b")
    ),
)
# Of the modes for writing articles and web pages, which are not the chat model.
OTHER_MODES = ("*.lora_dpo_*", "*.lora_sft_*", "*.lora_web_*")


def read(section: ConfigSection) -> ModelSpec:
    """Read an InternLMXcomposer2Config; `model_type` tells 2.5, whose is a text model's, from 2.0."""
    sizes = stated(section, "fixture_overrides", {})
    rank = sizes.integer("plora_rank", PLORA_RANK)
    if sizes.integer("plora_alpha", rank) != rank:
        sizes.fault("plora_alpha", f"must be plora_rank, {rank}")
    has_tiles = section.values.get("model_type") == INTERNLM2.name
    return ModelSpec(
        family="xcomposer",
        decoder_names=INTERNLM2.name,
        decoder=replace(INTERNLM2.read(section), plora_rank=rank),
        vision=_tiled(sizes) if has_tiles else _single(section, sizes),
        dtype=read_dtype(section),
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return the table."""
    return NameRules(
        rules=clip_rules(TOWER) + OUTER_RULES + PLORA_RULES + decoder_rules(spec.decoder_names),
        ignored=(*unused(TOWER), *OTHER_MODES, "*.inv_freq"),
    )


def _single(section: ConfigSection, sizes: ConfigSection) -> VisionSpec:
    image = section.integer("img_size", 224)
    tower = _tower(sizes, image)
    if image % tower.patch:
        section.fault("img_size", f"must be a multiple of the tower's patch, {tower.patch}")
    return VisionSpec(
        towers=(tower,),
        projector=MlpSpec(),
        pixels=FixedSquareSpec(image=image, mode="squash", mean=MEAN, std=STD),
        assembly=TilesSpec(rows_per_tile=(image // tower.patch) ** 2),
    )


def _tiled(sizes: ConfigSection) -> VisionSpec:
    tile = sizes.integer("tile_size", TILE)
    tower = _tower(sizes, tile)
    if tile % (2 * tower.patch):
        sizes.fault("tile_size", f"must be whole squares of four patches of {tower.patch} pixels")
    return VisionSpec(
        towers=(tower,),
        projector=MlpSpec(joined=JOINED),
        pixels=HdImageSpec(
            tile=tile,
            max_tiles=MAX_TILES,
            max_tiles_of_several=MAX_TILES_OF_SEVERAL,
            may_enlarge=False,
            pad="below",
            mean=MEAN,
            std=STD,
        ),
        assembly=HdGridSpec(cells=tile // tower.patch // 2, global_first=True),
    )


def _tower(sizes: ConfigSection, image: int) -> ClipVitSpec:
    """Return the tower with a position table for pictures of this size, as checkpoints hold it."""
    config = stated(sizes, "vision_config", LARGE_336)
    return replace(read_clip(config, select_layer=-1, keep_class_token=False), image=image)


XCOMPOSER = Family(
    name="xcomposer",
    model_types=("internlmxcomposer2",),
    architectures=("InternLMXComposer2ForCausalLM",),
    read=read,
    rules=name_rules,
)
