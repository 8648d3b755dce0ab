"""LLaVA-1.5 and 1.6 as their authors publish them: a flat config with `mm_*` keys, Llama or Mistral.

The CLIP tower's weights are in the checkpoint, or in the folder or repository that `mm_vision_tower` names.
A tower `timm/<name>` is timm's; its state dict is in the checkpoint under the same prefix.
Source of keys, defaults and names: haotian-liu/LLaVA, llava/model.
"""

import re
from dataclasses import replace
from pathlib import PurePosixPath

from engines.families.clip_config import MEAN, STD, named_clip, padding_colour
from engines.families.clip_names import clip_rules, unused
from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules
from engines.families.decoders.llama import LLAMA
from engines.families.decoders.mistral import MISTRAL
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.families.timm_names import PREFIX, named_timm, seen_by_timm, timm_rules, timm_unused
from engines.spec import Companion, ModelSpec, VisionSpec
from engines.vision.assembly.anyres_spec import AnyresRowsSpec
from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.parts import AssemblySpec, PixelSpec
from engines.vision.pixels.anyres_spec import AnyresSpec
from engines.vision.pixels.fixed_square_spec import FixedSquareSpec
from engines.vision.projectors.mlp_spec import MlpSpec
from engines.vision.towers.clip_vit_spec import ClipVitSpec
from engines.vision.towers.timm_sizes import TimmModel
from engines.vision.towers.timm_spec import TimmSpec
from engines.weights.rules import NameRules, Rule, layers, rows

TOWER = "model.vision_tower.vision_tower."
# Repositories of towers that some configs name by a path.
REPOS = {"clip-vit-large-patch14-336": "openai/clip-vit-large-patch14-336"}
# Upstream puts -200 into prompts, which is no id; what stands there is never embedded.
SLOT_ID = 0

IGNORED = (
    "*.inv_freq",
    *unused(TOWER + "vision_model."),
    TOWER + "text_model.*",
    TOWER + "*_projection.weight",
    TOWER + "logit_scale",
)


def read(section: ConfigSection) -> ModelSpec:
    """Read a LlavaConfig or LlavaMistralConfig."""
    decoder = MISTRAL if section.values.get("architectures") == ["LlavaMistralForCausalLM"] else LLAMA
    return ModelSpec(
        family="llava",
        decoder_names=decoder.name,
        decoder=decoder.read(section),
        vision=_vision(section),
        dtype=read_dtype(section),
        companions=() if _is_timm(section) else (tower_companion(section),),
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return the table; a projector of one layer is not numbered."""
    assert spec.vision is not None and isinstance(spec.vision.projector, MlpSpec)
    tower = spec.vision.towers[0]
    clip = clip_rules(TOWER + "vision_model.")
    return NameRules(
        rules=(
            *(timm_rules(tower, TOWER) if isinstance(tower, TimmSpec) else clip),
            *projector_rules(spec.vision.projector.depth),
            *rows(("model.image_newline", "newline")),
            *decoder_rules(spec.decoder_names),
        ),
        ignored=timm_unused(tower, TOWER) if isinstance(tower, TimmSpec) else IGNORED,
    )


def projector_rules(depth: int) -> tuple[Rule, ...]:
    """Return the names of linear layers with a GELU, which is counted, between them."""
    sources = [f"model.mm_projector.{2 * i}" for i in range(depth)] if depth > 1 else ["model.mm_projector"]
    return layers(*((source, f"projector.fc{i}") for i, source in enumerate(sources, 1)))


def read_tower(section: ConfigSection) -> ClipVitSpec:
    """Return the tower that `mm_*` keys describe."""
    tower = named_clip(
        section, "mm_vision_tower", select_layer=_select_layer(section), keep_class_token=False
    )
    _check_features(section, tower.hidden)
    return tower


def _select_layer(section: ConfigSection) -> int:
    return section.signed("mm_vision_select_layer", -2)


def _check_features(section: ConfigSection, width: int) -> None:
    section.must_be("mm_vision_select_feature", "patch", why="no released model keeps the class token")
    section.must_be("mm_hidden_size", width, why="the width of the tower")


def tower_companion(section: ConfigSection) -> Companion:
    """Return where the tower's weights are unless the checkpoint has them."""
    name = str(section.values.get("mm_vision_tower"))
    is_repo = not name.startswith((".", "/")) and name.count("/") == 1
    repo = name if is_repo else REPOS.get(PurePosixPath(name).name)
    return Companion(folder=name, prefix=TOWER, repo=repo)


def padded_square(section: ConfigSection, image: int, *, views: int = 1) -> FixedSquareSpec:
    """Return the preprocessing of models that look at a picture once."""
    return FixedSquareSpec(
        image=image,
        mode=section.choice("image_aspect_ratio", {"pad": "pad", "square": "crop"}, "square"),
        background=padding_colour(),
        views=views,
        mean=MEAN,
        std=STD,
    )


def anyres_canvases(
    section: ConfigSection, key: str, *, height_first: bool, side: int
) -> tuple[tuple[int, int], ...]:
    """Return the pairs (width, height) of a list in config.json."""
    pairs = section.values.get(key)
    good = isinstance(pairs, list) and bool(pairs) and all(_is_canvas(pair, side) for pair in pairs)
    if not isinstance(pairs, list) or not good:
        section.fault(key, f"must be a list of pairs of multiples of {side}, a tile's side")
        return ((side, side),)
    return tuple((pair[1], pair[0]) if height_first else (pair[0], pair[1]) for pair in pairs)


def _vision(section: ConfigSection) -> VisionSpec:
    timm = named_timm(section, "mm_vision_tower", select_layer=_select_layer(section))
    if timm is None:
        tower: ClipVitSpec | TimmSpec = read_tower(section)
    else:
        tower = timm.tower
        _check_features(section, tower.hidden)
    pixels, assembly = _pictures(section, tower, timm)
    return VisionSpec(
        towers=(tower,),
        projector=MlpSpec(depth=_projector_depth(section)),
        pixels=pixels,
        assembly=assembly,
        image_token_id=SLOT_ID,
    )


def _is_timm(section: ConfigSection) -> bool:
    return str(section.values.get("mm_vision_tower")).startswith(PREFIX)


def _pictures(
    section: ConfigSection, tower: ClipVitSpec | TimmSpec, timm: TimmModel | None
) -> tuple[PixelSpec, AssemblySpec]:
    side = tower.grid if isinstance(tower, TimmSpec) else tower.image // tower.patch
    if section.values.get("image_aspect_ratio") != "anyres":
        square = padded_square(section, tower.image)
        return seen_by_timm(square, timm) if timm else square, TilesSpec(rows_per_tile=side**2)
    canvases = anyres_canvases(section, "image_grid_pinpoints", height_first=False, side=tower.image)
    pixels = anyres_pixels(canvases, tower.image)
    return replace(pixels, mean=timm.mean, std=timm.std) if timm else pixels, AnyresRowsSpec(
        side=side,
        merge=section.choice("mm_patch_merge_type", {"flat": "flat", "spatial_unpad": "unpad"}, "flat"),
        rounding="down",
    )


def anyres_pixels(canvases: tuple[tuple[int, int], ...], image: int) -> AnyresSpec:
    """Return the preprocessing of LLaVA-1.6."""
    most = max(width // image * (height // image) for width, height in canvases)
    return AnyresSpec(image=image, canvases=canvases, max_tiles=most, mean=MEAN, std=STD)


def _projector_depth(section: ConfigSection) -> int:
    """Return the number of linear layers of `linear` or `mlp<n>x_gelu`."""
    kind = section.values.get("mm_projector_type", "linear")
    if kind == "linear":
        return 1
    found = re.fullmatch(r"mlp([2-9])x_gelu", str(kind))
    if found is None:
        section.fault("mm_projector_type", "must be linear or mlp<n>x_gelu, n from 2 to 9")
        return 2
    return int(found.group(1))


def _is_canvas(pair: object, side: int) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(pixels, int) and pixels > 0 and pixels % side == 0 for pixels in pair)
    )


LLAVA = Family(
    name="llava",
    model_types=("llava_llama", "llava_mistral"),
    architectures=("LlavaLlamaForCausalLM", "LlavaMistralForCausalLM"),
    read=read,
    rules=name_rules,
    applies=lambda config: "_Norm" not in str(config.get("mm_projector_type")),
)
