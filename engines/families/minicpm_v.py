"""MiniCPM-Llama3-V-2.5: SigLIP on slices, a resampler of 96 queries, Llama 3.

Source of keys, defaults and names: the release's configuration_minicpm.py and modeling_minicpmv.py.
"""

from dataclasses import replace
from typing import Any

from engines.families.clip_config import read_clip
from engines.families.clip_names import clip_rules
from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules
from engines.families.decoders.llama import LLAMA
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.families.hard_coded import stated
from engines.spec import ModelSpec, VisionSpec
from engines.vision.assembly.slices_spec import SlicesRowsSpec
from engines.vision.pixels.slices_spec import SlicesSpec
from engines.vision.projectors.resampler_spec import HEAD_DIM, ResamplerSpec
from engines.vision.towers.clip_vit_spec import ClipVitSpec
from engines.weights.rules import NameRules, layers, prefixed, rows

HALF = (0.5, 0.5, 0.5)  # mean and std of the pixels
VERSION = "2.5"  # 2.0 and 2.6 have the same class and other formulas

# Of Idefics2VisionConfig and the release's own, where the key is absent.
TOWER: dict[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 980,
    "patch_size": 14,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}

RESAMPLER_RULES = (
    *rows(
        ("resampler.query", "projector.query"),
        ("resampler.kv_proj.weight", "projector.kv.weight"),
        ("resampler.attn.in_proj_weight", "projector.qkv.weight"),
        ("resampler.attn.in_proj_bias", "projector.qkv.bias"),
        ("resampler.proj", "projector.out"),
    ),
    *layers(
        ("resampler.ln_q", "projector.norm_q"),
        ("resampler.ln_kv", "projector.norm_kv"),
        ("resampler.ln_post", "projector.norm_out"),
        ("resampler.attn.out_proj", "projector.o"),
    ),
)


def read(section: ConfigSection) -> ModelSpec:
    """Read a MiniCPMVConfig; the language model's keys are not nested."""
    if str(section.values.get("version")) != VERSION:
        section.fault("version", f"must be {VERSION}, the only one that is read")
    decoder = LLAMA.read(section)
    if decoder.hidden % HEAD_DIM:
        section.fault("hidden_size", f"must be a multiple of {HEAD_DIM}, the head size of the resampler")
    return ModelSpec(
        family="minicpm_v",
        decoder_names=LLAMA.name,
        decoder=decoder,
        vision=_vision(section),
        dtype=read_dtype(section),
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return the table."""
    language = prefixed(decoder_rules(spec.decoder_names), source="llm.")
    return NameRules(
        rules=clip_rules("vpm.") + RESAMPLER_RULES + language,
        ignored=("*.inv_freq", "*.position_ids", "resampler.pos_embed"),
    )


def _vision(section: ConfigSection) -> VisionSpec:
    slicing = stated(section, "slice_config", {})
    side = slicing.integer("scale_resolution", 448)
    tower = _tower(section, side)
    queries = section.integer("query_num", 64)
    max_slices = slicing.integer("max_slice_nums", 9)
    return VisionSpec(
        towers=(tower,),
        projector=ResamplerSpec(queries=queries, positions="sincos"),
        pixels=SlicesSpec(
            side=side,
            patch=tower.patch,
            max_tiles=max_slices if section.flag("slice_mode", True) else 1,
            mean=HALF,
            std=HALF,
        ),
        assembly=SlicesRowsSpec(
            rows_per_tile=queries,
            side=side,
            patch=tower.patch,
            table_side=tower.image // tower.patch,
            together=section.flag("batch_vision_input", True),
        ),
    )


def _tower(section: ConfigSection, side: int) -> ClipVitSpec:
    """Return the tower; `drop_vision_last_layer` removes a layer, in the checkpoint too."""
    tower = read_clip(stated(section, "vision_config", TOWER), select_layer=-1, keep_class_token=False)
    dropped = section.flag("drop_vision_last_layer", True)
    return replace(
        tower,
        tile=side // tower.patch * tower.patch,
        num_layers=tower.num_layers - dropped,
        class_token=False,
        patch_bias=True,
        pre_norm=False,
        post_norm=True,
    )


MINICPM_V = Family(
    name="minicpm_v",
    model_types=("minicpmv",),
    architectures=("MiniCPMV",),
    read=read,
    rules=name_rules,
)
