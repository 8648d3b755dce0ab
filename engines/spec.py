"""Hyper-parameters of a model: shapes and switches only, no tensors. Torch-free.

`engines/families/<family>.py` builds a `ModelSpec` from a checkpoint's config.json; networks, the loader, the
planner and the image preprocessing read it. Sizes are the whole model's, never one rank's share.
"""

from dataclasses import dataclass, replace
from typing import Literal

from engines.errors import EngineError
from engines.quant.weight_quant import WeightQuant
from engines.vision.parts import AssemblySpec, ImagePlan, PixelSpec, ProjectorSpec, TowerSpec
from engines.vision.video_spec import VideoSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeSpec:
    """Rotary position encoding, half-split pairs; formulas in `engines/decoder/rope.py`."""

    theta: float
    kind: Literal["default", "linear", "dynamic", "dynamic_steps", "llama3", "longrope"] = "default"
    factor: float = 1.0
    max_positions: int = 0  # dynamic, dynamic_steps: length up to which nothing changes
    original_max_positions: int = 0  # llama3, longrope
    low_freq_factor: float = 0.0  # llama3
    high_freq_factor: float = 0.0  # llama3
    short_factors: tuple[float, ...] = ()  # longrope, head_dim/2 numbers
    long_factors: tuple[float, ...] = ()
    attention_factor: float = 1.0  # cos and sin are multiplied by it
    sections: tuple[int, ...] = ()  # pairs that turn by each axis of positions; (): all by the only one
    rotary_dim: int | None = None  # leading numbers of a head that turn; None: all

    @property
    def by_prompt(self) -> bool:
        """Whether the prompt's length alone counts, however long the answer becomes."""
        return self.kind == "dynamic_steps"

    def regime(self, prompt_tokens: int) -> int:
        """Return a number that is equal for two prompts whose cached keys may be shared.

        Keys of a dynamic or longrope model depend on the prompt's length once it passes the trained one; the
        prefix cache seeds its hash chain with this number.
        """
        if self.kind == "dynamic_steps":
            return ((prompt_tokens - 1) // self.max_positions).bit_length()
        limit = {"dynamic": self.max_positions, "longrope": self.original_max_positions}.get(self.kind, 0)
        if limit == 0 or prompt_tokens <= limit:
            return 0
        return prompt_tokens if self.kind == "dynamic" else 1

    def rescaled(self, factor: float, *, max_positions: int) -> "RopeSpec":
        """Return dynamic NTK with this factor beyond `max_positions` (`engine.rope_scaling_factor`)."""
        return RopeSpec(
            theta=self.theta,
            kind="dynamic",
            factor=factor,
            max_positions=max_positions,
            sections=self.sections,
            rotary_dim=self.rotary_dim,
        )


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
    vision_qkv_bias: bool = False  # visual_experts: of the expert for image rows
    plora_rank: int = 0  # of an addition to every linear layer on image rows; 0: none
    tied_head: bool = False  # the head may share the embedding; the tensor in the checkpoint decides
    logn_length: int | None = None  # queries at later positions p are scaled by log(p + 1) / log(it)
    sliding_window: int | None = None  # query i sees key j iff 0 <= i - j < window
    kind: str = "llama_like"  # a name of `engines/decoder/registry.py`
    positions: str = "sequential"  # a name of `engines/decoder/positions.py`

    def stretched(self, *, rope_scaling_factor: float | None, use_logn_attn: bool | None) -> "DecoderSpec":
        """Return the decoder with what `engine.*` says of long prompts; None keeps the checkpoint's own.

        Raises EngineError for queries to be scaled by positions that are not one number a token.
        """
        rope, logn_length = self.rope, self.logn_length
        if use_logn_attn and rope.sections:
            raise EngineError(
                "engine.use_logn_attn=true: positions of this model have three axes, and queries are scaled "
                "by the logarithm of one; use null or false"
            )
        if use_logn_attn is not None:
            trained = rope.max_positions or rope.original_max_positions or self.max_positions
            logn_length = trained if use_logn_attn else None
        if rope_scaling_factor is not None:
            rope = rope.rescaled(rope_scaling_factor, max_positions=self.max_positions)
        return replace(self, rope=rope, logn_length=logn_length)


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionSpec:
    """Everything between a picture and the rows that are spliced into the prompt."""

    towers: tuple[TowerSpec, ...]  # mostly one
    projector: ProjectorSpec
    pixels: PixelSpec
    assembly: AssemblySpec
    image_token_id: int | None = None  # what slots hold in the prompt; None: the chat template names it
    video: VideoSpec | None = None  # None: it takes no videos

    def num_tokens(self, plan: ImagePlan) -> int:
        """Return the tokens of a picture; a text between rows is one token in all known vocabularies."""
        return sum(part if isinstance(part, int) else 1 for part in self.assembly.segments(plan))

    @property
    def most_tokens(self) -> int:
        """Tokens of a picture that costs as much as any."""
        return self.num_tokens(self.pixels.largest())


@dataclass(frozen=True, kw_only=True, slots=True)
class Companion:
    """Weights that a release leaves to another folder, as a tower's to the repository of CLIP."""

    folder: str  # as config.json names it; `engines/weights/companion_folder.py` finds it
    prefix: str  # put before its names; where the checkpoint has tensors of this prefix, those are taken
    file: str | None = None  # its only weight file, where that has a name of its own
    repo: str | None = None  # where hubs have it; None: a subfolder of the checkpoint's own repository


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterSpec:
    """A LoRA adapter that requests ask for by name (`engines/weights/adapter.py`)."""

    name: str
    folder: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """One model as the runtime sees it."""

    family: str  # a name of `engines.families.known_families`
    decoder_names: str  # whose tensor names the checkpoint uses, a name of `engines/families/decoders`
    decoder: DecoderSpec
    vision: VisionSpec | None
    dtype: Literal["float32", "bfloat16", "float16"]  # the checkpoint's own
    companions: tuple[Companion, ...] = ()
    quantization: WeightQuant | None = None  # None: all weights are in a floating dtype
    adapters: tuple[AdapterSpec, ...] = ()  # in the order of their numbers
