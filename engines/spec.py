"""Hyper-parameters of a model: shapes and switches only, no tensors. Torch-free.

`engines/families/<family>.py` builds a `ModelSpec` from a checkpoint's config.json; networks, the loader, the
planner and the image preprocessing read it. Sizes are the whole model's, never one rank's share.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeSpec:
    """Rotary position encoding, half-split pairs; formulas in `engines/rope.py`."""

    theta: float
    kind: Literal["default", "linear", "dynamic", "llama3", "longrope"] = "default"
    factor: float = 1.0
    max_positions: int = 0  # dynamic: length up to which nothing changes
    original_max_positions: int = 0  # llama3, longrope
    low_freq_factor: float = 0.0  # llama3
    high_freq_factor: float = 0.0  # llama3
    short_factors: tuple[float, ...] = ()  # longrope, head_dim/2 numbers
    long_factors: tuple[float, ...] = ()
    attention_factor: float = 1.0  # cos and sin are multiplied by it

    def regime(self, prompt_tokens: int) -> int:
        """Return a number that is equal for two prompts whose cached keys may be shared.

        Keys of a dynamic or longrope model depend on the prompt's length once it passes the trained one; the
        prefix cache seeds its hash chain with this number.
        """
        limit = {"dynamic": self.max_positions, "longrope": self.original_max_positions}.get(self.kind, 0)
        if limit == 0 or prompt_tokens <= limit:
            return 0
        return prompt_tokens if self.kind == "dynamic" else 1

    def rescaled(self, factor: float, *, max_positions: int) -> "RopeSpec":
        """Return dynamic NTK with this factor beyond `max_positions` (`engine.rope_scaling_factor`)."""
        return RopeSpec(theta=self.theta, kind="dynamic", factor=factor, max_positions=max_positions)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderSpec:
    """A Llama-like decoder: pre-norm, GQA, gated FFN."""

    num_layers: int
    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    norm_eps: float
    rope: RopeSpec
    max_positions: int  # tokens of the longest sequence it was made for, before rope.factor stretches it
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    tied_head: bool = False  # the head may share the embedding; the tensor in the checkpoint decides
    sliding_window: int | None = None  # query i sees key j iff 0 <= i - j < window


@dataclass(frozen=True, kw_only=True, slots=True)
class TowerSpec:
    """A vision transformer over square images."""

    kind: Literal["intern_vit"]
    image: int  # pixels a side
    patch: int  # pixels a side
    hidden: int
    num_layers: int
    num_heads: int
    ffn: int
    norm: Literal["layer_norm", "rms_norm"]
    norm_eps: float
    qkv_bias: bool
    qk_norm: bool
    select_layer: int  # hidden state that is handed on, an index into [embeddings, layer 1, ..., layer n]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectorSpec:
    """From tower features to rows of the decoder's embedding space."""

    kind: Literal["pixel_shuffle_mlp"]
    downsample: float  # 0.5: 2 x 2 patches become one row
    shuffle_version: Literal["v1", "v2"] = "v2"


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelSpec:
    """From an RGB picture to what the tower reads (`engines/vision/pixels/`)."""

    kind: Literal["dynamic_tiles"]
    image: int  # pixels a side of a tile
    min_tiles: int
    max_tiles: int
    thumbnail: bool  # the whole picture as one more tile where there are several
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionSpec:
    """Everything between a picture and the rows that are spliced into the prompt."""

    tower: TowerSpec
    projector: ProjectorSpec
    pixels: PixelSpec
    tokens_per_tile: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """One model as the runtime sees it."""

    family: str  # a name of `engines.families.known_families`
    decoder_names: str  # whose tensor names the checkpoint uses, a name of `engines/families/decoders`
    decoder: DecoderSpec
    vision: VisionSpec | None
    dtype: Literal["float32", "bfloat16", "float16"]  # the checkpoint's own
