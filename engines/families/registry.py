"""The known families, and the choice among them by what config.json says: its architecture, else its type."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engines.errors import CheckpointError
from engines.families.cogvlm import COGVLM
from engines.families.config_section import ConfigSection
from engines.families.deepseek_vl import DEEPSEEK_VL
from engines.families.family import Family
from engines.families.glm4v import GLM4V
from engines.families.internvl import INTERNVL
from engines.families.internvl3_hf import INTERNVL3_HF
from engines.families.llava import LLAVA
from engines.families.llava_hf import LLAVA_HF
from engines.families.mini_gemini import MINI_GEMINI
from engines.families.minicpm_v import MINICPM_V
from engines.families.phi3_vision import PHI3_VISION
from engines.families.quantization import read_weight_quant
from engines.families.qwen2_vl import QWEN2_VL
from engines.families.qwen_vl import QWEN_VL
from engines.families.text import TEXT
from engines.families.xcomposer import XCOMPOSER
from engines.families.yi_vl import YI_VL
from engines.spec import ModelSpec
from engines.weights.rules import NameRules

FAMILIES: tuple[Family, ...] = (
    INTERNVL,
    DEEPSEEK_VL,
    LLAVA,
    LLAVA_HF,
    MINI_GEMINI,
    YI_VL,
    MINICPM_V,
    PHI3_VISION,
    INTERNVL3_HF,
    QWEN2_VL,
    QWEN_VL,
    COGVLM,
    GLM4V,
    TEXT,
    XCOMPOSER,
)  # fmt: skip


def known_families() -> tuple[str, ...]:
    """Return the names of the families that can be read, sorted."""
    return tuple(sorted(family.name for family in FAMILIES))


def read_spec(config: Mapping[str, Any], *, origin: str, folder: Path | None = None) -> ModelSpec:
    """Build the spec of a model from its upstream config.json.

    `origin` names the file in messages; `folder` is the checkpoint's, where some families keep more of what
    they are (None: the released sizes are taken). Raises CheckpointError for an unknown architecture (with
    all known ones) and, in one message, for every key that is missing, of another type or of a value that
    isn't supported.
    """
    family = _family_of(config, origin)
    section = ConfigSection(config, origin=origin, folder=folder)
    spec = replace(family.read(section), quantization=read_weight_quant(section))
    section.raise_faults()
    return spec


def rules_for(spec: ModelSpec) -> NameRules:
    """Return the tensor names of the checkpoints that this spec was read from."""
    return next(family for family in FAMILIES if family.name == spec.family).rules(spec)


def _family_of(config: Mapping[str, Any], origin: str) -> Family:
    model_type = config.get("model_type")
    architectures = config.get("architectures") or []
    names = architectures if isinstance(architectures, list) else [architectures]
    here = [family for family in FAMILIES if family.applies is None or family.applies(config)]
    for family in here:
        if any(name in family.architectures for name in names):
            return family
    for family in here:
        if model_type in family.model_types:
            return family
    seen = ", ".join(f"`{name}`" for name in names) or "none"
    known = sorted(f"`{name}` ({family.name})" for family in FAMILIES for name in family.architectures)
    raise CheckpointError(
        f"unknown model: architectures {seen}, model_type `{model_type}` ({origin}): "
        f"known are {', '.join(known)}; use a checkpoint of one of these"
    )
