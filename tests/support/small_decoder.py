"""A decoder of two small layers whose matrices are whole tiles of 12 and of 7 bits."""

from engines.spec import DecoderSpec, ModelSpec, RopeSpec

SMALL = ModelSpec(
    family="internvl",
    decoder_names="internlm2",
    decoder=DecoderSpec(
        num_layers=2,
        hidden=256,
        num_heads=8,
        num_kv_heads=4,
        head_dim=32,
        ffn=512,
        vocab=300,
        norm_eps=1e-5,
        rope=RopeSpec(theta=10000.0),
        max_positions=256,
    ),
    vision=None,
    dtype="bfloat16",
)
