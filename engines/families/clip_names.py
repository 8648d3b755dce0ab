"""The names that transformers gives a CLIP or SigLIP tower, as most checkpoints hold them."""

from engines.weights.rules import Rule, fused, layers, rows


def clip_rules(source: str) -> tuple[Rule, ...]:
    """Return the rules of a tower whose names begin with `source`."""
    layer, ours = source + "encoder.layers.{i}.", "vision.layers.{i}."
    return (
        *rows(
            (source + "embeddings.class_embedding", "vision.class_token"),
            (source + "embeddings.position_embedding.weight", "vision.positions"),
        ),
        *layers(
            (source + "embeddings.patch_embedding", "vision.patch"),
            (source + "pre_layrnorm", "vision.pre_norm"),
            (source + "post_layernorm", "vision.post_norm"),
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
