"""Mini-Gemini, also called MGM: LLaVA's layout with a ConvNeXt in which CLIP's patches look things up.

Source of keys, sizes by name, defaults and names: dvlab-research/MGM, mgm/model.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from engines.families.clip_names import clip_rules
from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules
from engines.families.decoders.llama import LLAMA
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.families.llava import (
    IGNORED,
    SLOT_ID,
    TOWER,
    padded_square,
    projector_rules,
    read_tower,
    tower_companion,
)
from engines.spec import Companion, ModelSpec, VisionSpec
from engines.vision.assembly.mined_spec import MinedSpec
from engines.vision.projectors.mlp_spec import MlpSpec
from engines.vision.towers.convnext_spec import STEM, ConvNextSpec
from engines.weights.rules import NameRules, Rule, layers, rows

MAP_TOWER = "vision_tower_aux."
MAP_FILE = "open_clip_pytorch_model.bin"
TRUNK = MAP_TOWER + "visual.trunk."
# A tuned ConvNeXt in the checkpoint itself.
TUNED = (("model.vision_tower_aux.vision_", TRUNK),)
# The rest of the OpenCLIP model that the ConvNeXt is the trunk of.
REST = (
    "visual.trunk.head.*", "visual.trunk.norm_pre.*", "visual.head.*", "text.*", "transformer.*", "attn_mask",
    "token_embedding.*", "ln_final.*", "positional_embedding", "text_projection", "logit_scale",
)  # fmt: skip

STAGES = 4
# Depths and dims by what the folder is called; a tiny checkpoint may bring its own.
SIZES: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("base", "w-320"): {"depths": [3, 3, 27, 3], "dims": [128, 256, 512, 1024]},
    ("large", "d-320"): {"depths": [3, 3, 27, 3], "dims": [192, 384, 768, 1536]},
}
# The folder that upstream's instructions copy a repository into.
REPOS = {
    "openclip-convnext-large-d-320-laion2B-s29B-b131K-ft-soup": (
        "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup"
    ),
}
OWN_SIZES = "fixture_convnext"
MAP_NORM_EPS = 1e-6


def read(section: ConfigSection) -> ModelSpec:
    """Read an MGMConfig."""
    companions = [tower_companion(section)]
    if not section.flag("optimize_vision_tower_aux", False):
        folder = str(section.values.get("mm_vision_tower_aux"))
        companions.append(Companion(folder=folder, prefix=MAP_TOWER, file=MAP_FILE, repo=_map_repo(folder)))
    return ModelSpec(
        family="mini_gemini",
        decoder_names=LLAMA.name,
        decoder=LLAMA.read(section),
        vision=_vision(section),
        dtype=read_dtype(section),
        companions=tuple(companions),
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return the table; where the ConvNeXt is tuned, it is in the checkpoint under other names."""
    is_tuned = not any(companion.prefix == MAP_TOWER for companion in spec.companions)
    ignored = (*IGNORED, *(MAP_TOWER + name for name in REST))
    return NameRules(
        rules=(
            *clip_rules(TOWER + "vision_model."),
            *_map_rules(),
            *_mining_rules(),
            *projector_rules(2),
            *decoder_rules(spec.decoder_names),
        ),
        ignored=ignored if is_tuned else (*ignored, "model.vision_tower_aux.*"),
        spellings=TUNED if is_tuned else (),
    )


def _vision(section: ConfigSection) -> VisionSpec:
    tower, map_tower = read_tower(section), _map_tower(section)
    grid = section.integer("image_grid", 1)
    side = tower.image // tower.patch
    if map_tower.grid % (side * grid):
        section.fault("image_size_aux", f"must be a multiple of {STEM * side * grid}: {STEM} a patch")
    section.must_be("mm_projector_type", "mlp2x_gelu")
    assembly = MinedSpec(
        image=tower.image,
        side=side,
        grid=grid,
        whole=section.flag("image_global", False),
        map_width=map_tower.hidden,
    )
    return VisionSpec(
        towers=(tower, map_tower),
        projector=MlpSpec(),
        pixels=padded_square(section, map_tower.image, views=assembly.num_views),
        assembly=assembly,
        image_token_id=SLOT_ID,
    )


def _map_tower(section: ConfigSection) -> ConvNextSpec:
    sizes = _sizes(section)
    dims, depths = sizes.integers("dims"), sizes.integers("depths")
    for key, numbers in (("dims", dims), ("depths", depths)):
        if len(numbers) != STAGES:
            sizes.fault(key, f"must be of {STAGES} stages")
    section.must_be("mm_hidden_size_aux", sum(dims), why="the channels of all stages")
    return ConvNextSpec(
        image=section.integer("image_size_aux", 320),
        depths=depths,
        dims=dims,
        hidden=sum(dims),
        norm_eps=MAP_NORM_EPS,
    )


def _sizes(section: ConfigSection) -> ConfigSection:
    if section.values.get(OWN_SIZES) is not None:
        return section.nested(OWN_SIZES)
    name = PurePosixPath(str(section.values.get("mm_vision_tower_aux"))).name.lower()
    for words, sizes in SIZES.items():
        if all(word in name for word in words):
            return section.made("mm_vision_tower_aux", sizes)
    known = ", ".join(" and ".join(f"`{word}`" for word in words) for words in sorted(SIZES))
    section.fault("mm_vision_tower_aux", f"must name an OpenCLIP ConvNeXt, with {known} in it")
    return section.made("mm_vision_tower_aux", SIZES["large", "d-320"])


def _map_repo(folder: str) -> str | None:
    return REPOS.get(PurePosixPath(folder).name)


def _mining_rules() -> tuple[Rule, ...]:
    names = (("query", "query"), ("aux", "key"), ("val", "value"))
    return layers(
        *(
            (f"model.vlm_uni_{theirs}_projector.{index}", f"mining.{ours}{part}")
            for theirs, ours in names
            for index, part in ((0, "_norm"), (1, ""))
        )
    )


def _map_rules() -> tuple[Rule, ...]:
    pairs = [(TRUNK + "stem.0", "vision2.stem"), (TRUNK + "stem.1", "vision2.stem_norm")]
    for index in range(STAGES):
        source, target = f"{TRUNK}stages.{index}.", f"vision2.stages.{index}."
        pairs += [
            (source + "downsample.0", target + "halve_norm"),
            (source + "downsample.1", target + "halve"),
            (source + "blocks.{i}.conv_dw", target + "blocks.{i}.depthwise"),
            (source + "blocks.{i}.norm", target + "blocks.{i}.norm"),
            (source + "blocks.{i}.mlp.fc1", target + "blocks.{i}.fc1"),
            (source + "blocks.{i}.mlp.fc2", target + "blocks.{i}.fc2"),
        ]
    scales = [
        (f"{TRUNK}stages.{index}.blocks.{{i}}.gamma", f"vision2.stages.{index}.blocks.{{i}}.scale")
        for index in range(STAGES)
    ]
    return layers(*pairs) + rows(*scales)


MINI_GEMINI = Family(
    name="mini_gemini",
    model_types=("mgm", "mini_gemini"),
    architectures=("MGMLlamaForCausalLM", "MiniGeminiLlamaForCausalLM"),
    read=read,
    rules=name_rules,
)
