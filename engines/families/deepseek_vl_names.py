"""The names of DeepSeek-VL's towers and aligners: a timm transformer, and SAM's own."""

from engines.spec import VisionSpec
from engines.vision.projectors.mlp_spec import MlpSpec
from engines.weights.rules import Rule, layers, rows

SINGLE = "vision_model.vision_tower."
HIGH, LOW = "vision_model.vision_tower_high.vision_tower.", "vision_model.vision_tower_low.vision_tower."
VISION_IGNORED = ("*.attn_pool.*", "vision_model.high_layer_norm.*", "vision_model.low_layer_norm.*")


def vision_rules(vision: VisionSpec) -> tuple[Rule, ...]:
    """Return the rules of all of vision."""
    if isinstance(vision.projector, MlpSpec):
        sources = [f"aligner.layers.{2 * i}" for i in range(vision.projector.depth)]
        pairs = [(source, f"projector.fc{i}") for i, source in enumerate(sources, 1)]
        return (*timm_rules(SINGLE, "vision."), *layers(*pairs))
    aligner = (
        ("aligner.high_up_proj", "projector.high"),
        ("aligner.low_up_proj", "projector.low"),
        ("aligner.layers.1", "projector.fc2"),
    )
    return (*sam_rules(HIGH, "vision."), *timm_rules(LOW, "vision2."), *layers(*aligner))


def timm_rules(source: str, target: str) -> tuple[Rule, ...]:
    """Return the rules of a plain vision transformer of timm."""
    layer, ours = source + "blocks.{i}.", target + "layers.{i}."
    return (
        Rule(source=source + "pos_embed", target=target + "positions", layout="reshaped"),
        *layers(
            (source + "patch_embed.proj", target + "patch"),
            (source + "norm", target + "post_norm"),
            (layer + "norm1", ours + "norm1"),
            (layer + "attn.qkv", ours + "qkv"),
            (layer + "attn.proj", ours + "o"),
            (layer + "norm2", ours + "norm2"),
            (layer + "mlp.fc1", ours + "fc1"),
            (layer + "mlp.fc2", ours + "fc2"),
        ),
    )


def sam_rules(source: str, target: str) -> tuple[Rule, ...]:
    """Return the rules of SAM's image encoder, with the layers that halve its map."""
    layer, ours = source + "blocks.{i}.", target + "layers.{i}."
    return (
        Rule(source=source + "pos_embed", target=target + "positions", layout="reshaped"),
        *layers(
            (source + "patch_embed.proj", target + "patch"),
            (layer + "norm1", ours + "norm1"),
            (layer + "attn.qkv", ours + "qkv"),
            (layer + "attn.proj", ours + "o"),
            (layer + "norm2", ours + "norm2"),
            (layer + "mlp.lin1", ours + "fc1"),
            (layer + "mlp.lin2", ours + "fc2"),
        ),
        *rows(
            (layer + "attn.rel_pos_h", ours + "relative_y"),
            (layer + "attn.rel_pos_w", ours + "relative_x"),
            (source + "downsamples.0.weight", target + "half1.weight"),
            (source + "downsamples.1.weight", target + "half2.weight"),
            (source + "hd_alpha_downsamples", target + "first_scale"),
        ),
        *_neck_rules(source + "neck.", target + "neck."),
        *_neck_rules(source + "neck_hd.", target + "first_neck."),
    )


def _neck_rules(source: str, target: str) -> tuple[Rule, ...]:
    convs = rows(
        (source + "0.weight", target + "conv1.weight"), (source + "2.weight", target + "conv2.weight")
    )
    return (*convs, *layers((source + "1", target + "norm1"), (source + "3", target + "norm2")))
