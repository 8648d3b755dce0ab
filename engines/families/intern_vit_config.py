"""InternViT and what comes behind it in InternVL's configs: the original ones, and those of transformers."""

from dataclasses import dataclass
from typing import Literal

from engines.families.config_section import ConfigSection
from engines.vision.towers.intern_vit_spec import InternVitSpec
from engines.vision.video_spec import Choice, VideoSpec

Norm = Literal["layer_norm", "rms_norm"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Of a video, as the model cards of InternVL2 ask about one.
FRAME_LABEL = "Frame{}: "
NUM_FRAMES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How one layout spells a tower's keys, and what its config class assumes where there is none."""

    qkv_bias: str  # key
    qk_norm: str  # key
    select_layer: str  # key of the whole config
    image: int
    hidden: int
    num_layers: int
    num_heads: int
    ffn: int
    norm: Norm
    has_qk_norm: bool


def read_intern_vit(section: ConfigSection, layout: Layout, *, select_layer: int) -> InternVitSpec:
    """Return the tower of a `vision_config`; sides may be written as pairs of equal numbers."""
    section.must_be("hidden_act", "gelu")
    section.must_be("num_channels", 3)
    norms: dict[str, Norm] = {"layer_norm": "layer_norm", "rms_norm": "rms_norm"}
    hidden = section.integer("hidden_size", layout.hidden)
    num_heads = section.integer("num_attention_heads", layout.num_heads)
    if hidden % num_heads:
        section.fault("num_attention_heads", f"must divide hidden_size, {hidden}")
    num_layers = section.integer("num_hidden_layers", layout.num_layers)
    if not -num_layers - 1 <= select_layer <= num_layers:
        section.fault("num_hidden_layers", f"must cover {layout.select_layer}, {select_layer}")
    image, patch = _side(section, "image_size", layout.image), _side(section, "patch_size", 14)
    if image % patch:
        section.fault("patch_size", f"must divide image_size, {image}")
    return InternVitSpec(
        image=image,
        patch=patch,
        hidden=hidden,
        num_layers=num_layers,
        num_heads=num_heads,
        ffn=section.integer("intermediate_size", layout.ffn),
        norm=section.choice("norm_type", norms, layout.norm),
        norm_eps=section.number("layer_norm_eps", 1e-6),
        qkv_bias=section.flag(layout.qkv_bias, False),
        qk_norm=section.flag(layout.qk_norm, layout.has_qk_norm),
        select_layer=select_layer,
    )


def shuffle_factor(section: ConfigSection, *, grid: int) -> int:
    """Return how many patches a side `downsample_ratio` makes one row, of `grid` a side of a tile."""
    ratio = section.number("downsample_ratio", 0.5)
    factor = round(1 / ratio) if ratio > 1 / (grid + 1) else 0
    if factor == 0 or abs(factor * ratio - 1) > 1e-6 or grid % factor:
        section.fault("downsample_ratio", f"must be 1/n where n divides the {grid} patches of a side")
        return 1
    return factor


def frames(choice: Choice) -> VideoSpec:
    """Return how videos are looked at: some frames, each a picture with a label."""
    return VideoSpec(choice=choice, label=FRAME_LABEL, num_frames=NUM_FRAMES)


def _side(section: ConfigSection, key: str, default: int) -> int:
    """Return the side of a square that is written as a number or as a pair of equal ones."""
    if not isinstance(section.values.get(key), list):
        return section.integer(key, default)
    height, width = section.numbers(key, 2)
    if height != width or height != int(height):
        section.fault(key, "must be two equal whole numbers")
    return max(int(height), 1)
