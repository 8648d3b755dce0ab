"""The names that transformers gives a CLIP or SigLIP tower, as most checkpoints hold them."""

from engines.weights.rules import Rule, fused, layers, rows


def clip_rules(source: str, target: str = "vision.") -> tuple[Rule, ...]:
    """Return the rules of a tower whose names begin with `source`, for the parameters below `target`."""
    layer, ours = source + "encoder.layers.{i}.", target + "layers.{i}."
    return (
        *rows(
            (source + "embeddings.class_embedding", target + "class_token"),
            (source + "embeddings.position_embedding.weight", target + "positions"),
        ),
        *layers(
            (source + "embeddings.patch_embedding", target + "patch"),
            (source + "pre_layrnorm", target + "pre_norm"),
            (source + "post_layernorm", target + "post_norm"),
            (layer + "layer_norm1", ours + "norm1"),
            (layer + "layer_norm2", ours + "norm2"),
            (layer + "self_attn.out_proj", ours + "o"),
            (layer + "mlp.fc1", ours + "fc1"),
            (layer + "mlp.fc2", ours + "fc2"),
        ),
        *fused(layer + "self_attn.{}_proj", ours + "qkv", "qkv"),
    )


def unused(source: str) -> tuple[str, ...]:
    """Return what such a checkpoint may hold and no picture passes through where features are taken early."""
    return (source + "post_layernorm.*", source + "embeddings.position_ids")
