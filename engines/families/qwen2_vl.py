"""Qwen2-VL and Qwen2.5-VL: a tower of native resolution, a patch merger, and Qwen2 with three-axis positions.

Source of keys, defaults and names: transformers, models/qwen2_vl and models/qwen2_5_vl. Decoder keys stand at
the top or, in newer files, under `text_config`.
"""

from dataclasses import replace
from typing import Literal

from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules
from engines.families.decoders.qwen2 import QWEN2
from engines.families.dtype import read_dtype
from engines.families.family import Family
from engines.spec import ModelSpec, VisionSpec
from engines.vision.assembly.native_spec import NativeRowsSpec
from engines.vision.pixels.native_spec import NativeSpec
from engines.vision.projectors.patch_merger_spec import PatchMergerSpec
from engines.vision.towers.qwen2_vit_spec import Qwen2VitSpec
from engines.vision.video_spec import ClipSpec, VideoSpec
from engines.weights.rules import NameRules, fused, layers

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# Of the released preprocessor_config.json files; config.json has no such keys.
MIN_PIXELS = 56 * 56
MAX_PIXELS = 12_845_056
# Of the released video processors; pixels of a frame.
VIDEO_FPS = 2.0
VIDEO_MIN_FRAMES = 4
VIDEO_MIN_PIXELS = 128 * 28 * 28
VIDEO_MAX_PIXELS = 768 * 28 * 28
NORM_EPS = 1e-6  # of the tower and the merger, not in config.json

LAYER = "visual.blocks.{i}."
TARGET = "vision.layers.{i}."

VISION_RULES = (
    *layers(
        ("visual.patch_embed.proj", "vision.patch"),
        (LAYER + "norm1", TARGET + "norm1"),
        (LAYER + "norm2", TARGET + "norm2"),
        (LAYER + "attn.qkv", TARGET + "qkv"),
        (LAYER + "attn.proj", TARGET + "o"),
        (LAYER + "mlp.fc1", TARGET + "fc1"),
        (LAYER + "mlp.fc2", TARGET + "fc2"),
        (LAYER + "mlp.down_proj", TARGET + "down"),
        ("visual.merger.ln_q", "projector.norm"),
        ("visual.merger.mlp.0", "projector.fc1"),
        ("visual.merger.mlp.2", "projector.fc2"),
    ),
    *fused(LAYER + "mlp.{}_proj", TARGET + "gate_up", ("gate", "up")),
)
# As newer versions of transformers save it.
SPELLINGS = (("model.language_model.", "model."), ("model.visual.", "visual."))


def read(section: ConfigSection) -> ModelSpec:
    """Read a Qwen2VLConfig or a Qwen2_5_VLConfig."""
    text = section.nested("text_config") if "text_config" in section.values else section
    decoder = replace(QWEN2.read(text), positions="mrope")
    if sum(decoder.rope.sections) != decoder.head_dim // 2:
        text.fault("rope_scaling", f"must have a `mrope_section` of {decoder.head_dim // 2} pairs in all")
    tower_section = section.nested("vision_config")
    is_first = section.values.get("model_type") == "qwen2_vl"
    tower = _first_tower(tower_section) if is_first else _second_tower(tower_section)
    out_key = "hidden_size" if is_first else "out_hidden_size"
    if tower_section.integer(out_key, 3584) != decoder.hidden:
        tower_section.fault(out_key, f"must be the decoder's hidden_size, {decoder.hidden}")
    return ModelSpec(
        family="qwen2_vl",
        decoder_names="qwen2",
        decoder=decoder,
        vision=VisionSpec(
            towers=(tower,),
            projector=PatchMergerSpec(merge=tower.merge, norm=tower.norm, norm_eps=NORM_EPS),
            pixels=NativeSpec(
                cell=tower.patch * tower.merge,
                step_frames=tower.frames,
                min_pixels=MIN_PIXELS,
                max_pixels=MAX_PIXELS,
                mean=CLIP_MEAN,
                std=CLIP_STD,
            ),
            assembly=NativeRowsSpec(),
            image_token_id=section.integer("image_token_id", 151655),
            video=_video(section, tower, tower_section),
        ),
        dtype=read_dtype(section, text),
    )


def name_rules(spec: ModelSpec) -> NameRules:
    """Return vision's names and the decoder's, which have no prefix."""
    return NameRules(
        rules=VISION_RULES + decoder_rules("qwen2"), ignored=("*.inv_freq",), spellings=SPELLINGS
    )


def _video(section: ConfigSection, tower: Qwen2VitSpec, tower_section: ConfigSection) -> VideoSpec:
    """Read how videos are looked at; Qwen2.5-VL alone gives steps positions by the clock."""
    by_clock = section.values.get("model_type") == "qwen2_5_vl"
    return VideoSpec(
        choice="starts",
        fps=VIDEO_FPS,
        clip=ClipSpec(
            token_id=section.integer("video_token_id", 151656),
            step_frames=tower.frames,
            min_frames=VIDEO_MIN_FRAMES,
            min_pixels=VIDEO_MIN_PIXELS,
            max_pixels=VIDEO_MAX_PIXELS,
            times_a_second=tower_section.number("tokens_per_second", 4.0) if by_clock else None,
        ),
    )


def _first_tower(section: ConfigSection) -> Qwen2VitSpec:
    """Read the tower of Qwen2-VL, whose `hidden_size` is the decoder's."""
    hidden = section.integer("embed_dim", 1280)
    return _tower(
        section,
        hidden=hidden,
        ffn=int(hidden * section.number("mlp_ratio", 4.0)),
        norm="layer_norm",
        hidden_act=section.choice("hidden_act", {"quick_gelu": "quick_gelu", "gelu": "gelu"}, "quick_gelu"),
    )


def _second_tower(section: ConfigSection) -> Qwen2VitSpec:
    """Read the tower of Qwen2.5-VL: RMS norm, a gated FFN, and windows in most layers."""
    section.must_be("hidden_act", "silu")
    tower = _tower(
        section,
        hidden=section.integer("hidden_size", 1280),
        ffn=section.integer("intermediate_size", 3420),
        norm="rms_norm",
        hidden_act="silu",
    )
    window, cell = section.integer("window_size", 112), tower.patch * tower.merge
    if window % cell:
        section.fault("window_size", f"must be a multiple of a cell's side, {cell} pixels")
    full = section.values.get("fullatt_block_indexes", [7, 15, 23, 31])
    if not isinstance(full, list) or not all(type(i) is int and 0 <= i < tower.num_layers for i in full):
        section.fault("fullatt_block_indexes", f"must be a list of layers below {tower.num_layers}")
        full = []
    return replace(tower, window=window // cell, full_layers=tuple(full))


def _tower(
    section: ConfigSection,
    *,
    hidden: int,
    ffn: int,
    norm: Literal["layer_norm", "rms_norm"],
    hidden_act: Literal["quick_gelu", "gelu", "silu"],
) -> Qwen2VitSpec:
    num_heads = section.integer("num_heads", 16)
    if hidden % num_heads or hidden // num_heads % 4:
        section.fault("num_heads", f"must divide the tower's width, {hidden}, into heads of a multiple of 4")
    return Qwen2VitSpec(
        patch=section.integer("patch_size", 14),
        frames=section.integer("temporal_patch_size", 2),
        merge=section.integer("spatial_merge_size", 2),
        hidden=hidden,
        num_layers=section.integer("depth", 32),
        num_heads=num_heads,
        ffn=ffn,
        norm=norm,
        norm_eps=NORM_EPS,
        hidden_act=hidden_act,
    )


QWEN2_VL = Family(
    name="qwen2_vl",
    model_types=("qwen2_vl", "qwen2_5_vl"),
    architectures=("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"),
    read=read,
    rules=name_rules,
)
