"""EVA2-CLIP in the checkpoints of CogVLM and GLM-4V: config, names, preprocessing. Torch-free."""

from engines.families.clip_config import MEAN, STD
from engines.families.config_section import ConfigSection
from engines.vision.pixels.fixed_square_spec import FixedSquareSpec
from engines.vision.towers.eva_clip_spec import EvaClipSpec
from engines.weights.rules import Rule, layers, prefixed, rows

LAYER, OURS = "transformer.layers.{i}.", "vision.layers.{i}."
RULES = (
    *rows(
        ("patch_embedding.cls_embedding", "vision.class_token"),
        ("patch_embedding.position_embedding.weight", "vision.positions"),
        ("linear_proj.linear_proj.weight", "projector.fc.weight"),
        ("linear_proj.dense_4h_to_h.weight", "projector.down.weight"),
    ),
    *layers(
        ("patch_embedding.proj", "vision.patch"),
        (LAYER + "attention.query_key_value", OURS + "qkv"),
        (LAYER + "attention.dense", OURS + "o"),
        (LAYER + "input_layernorm", OURS + "norm1"),
        (LAYER + "mlp.fc1", OURS + "fc1"),
        (LAYER + "mlp.fc2", OURS + "fc2"),
        (LAYER + "post_attention_layernorm", OURS + "norm2"),
        ("conv", "projector.conv"),
        ("linear_proj.norm1", "projector.norm"),
    ),
    Rule(source="linear_proj.gate_proj.weight", target="projector.gate_up.weight", block="gate"),
    Rule(source="linear_proj.dense_h_to_4h.weight", target="projector.gate_up.weight", block="up"),
    Rule(source="boi", target="assembly.first", layout="reshaped"),
    Rule(source="eoi", target="assembly.last", layout="reshaped"),
)


def eva_clip_rules(prefix: str) -> tuple[Rule, ...]:
    """Return the names of tower, projector and the two rows around a picture, below a prefix."""
    return prefixed(RULES, source=prefix)


def read_eva_clip(section: ConfigSection, *, merged: bool) -> EvaClipSpec:
    """Return the tower of a `vision_config`; `merged`: four of its patches make one row."""
    section.must_be("hidden_act", "gelu")
    section.must_be("in_channels", 3)
    image, patch = section.integer("image_size"), section.integer("patch_size", 14)
    side = image // patch
    if image % patch or (merged and side % 2):
        rule = "an even number of patches" if merged else "whole patches"
        section.fault("image_size", f"must be {rule} of {patch} pixels")
    section.must_be("num_positions", side**2 + 1, why="the patches and the class token")
    hidden, num_heads = section.integer("hidden_size"), section.integer("num_heads")
    if hidden % num_heads:
        section.fault("num_heads", f"must divide hidden_size, {hidden}")
    return EvaClipSpec(
        image=image,
        patch=patch,
        hidden=hidden,
        num_layers=section.integer("num_hidden_layers"),
        num_heads=num_heads,
        ffn=section.integer("intermediate_size"),
        norm_eps=section.number("layer_norm_eps", 1e-6),
    )


def squashed_square(image: int) -> FixedSquareSpec:
    """Return the preprocessing: both sides resized to the square."""
    return FixedSquareSpec(image=image, mode="squash", mean=MEAN, std=STD)
