"""One thing to plan: a model, a device and the options of an engine, read by every formula of the plan.

Of the formulas only this file and `changes.py` know the config tree.
"""

from dataclasses import dataclass, replace

from deployer.config.adapters import adapters_of
from deployer.config.devices import PROVEN, EngineChoice
from deployer.config.engine_options import engine_options
from deployer.config.schema import DeployConfig
from deployer.generation.weight_format import planned_quant
from deployer.plan.hardware import DTYPE_BYTES, Dtype, Hardware, supports
from deployer.plan.number_formats import WeightFormat
from deployer.prompt.pixel_options import configured
from engines.options import EngineOptions
from engines.quant.weight_quant import WeightQuant
from engines.schedule.prompt_budget import PromptBudget
from engines.spec import ModelSpec
from engines.weights.decode_copy import DecodeCopy, decode_copy


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A deployment on one kind of device."""

    spec: ModelSpec  # pixels and rope as the config changes them, with its adapters
    hardware: Hardware
    options: EngineOptions  # without `auto`
    quant: WeightQuant | None  # of the checkpoint, or of the one that `deploy quantize` would make

    @property
    def weights(self) -> WeightFormat:
        """The number format of the decoder's linear layers."""
        return "none" if self.quant is None else self.quant.format

    @property
    def capability(self) -> tuple[int, int] | None:
        """The GPU's compute capability; None for any other device."""
        version = self.hardware.capability
        return None if version is None else (version[0], version[1])

    @property
    def second_copy(self) -> DecodeCopy:
        """The second copy of the weights for decode, by the engine's own rule."""
        return decode_copy(
            self.spec,
            self.options,
            dtype=self.dtype,
            quant=self.quant,
            capability=self.capability,
            memory_bytes=self.hardware.memory_bytes,
        )

    @property
    def tp(self) -> int:
        """Ranks that share the model."""
        return self.options.tp

    @property
    def dtype(self) -> Dtype:
        """Format of activations, and of weights that are not quantized."""
        assert self.options.dtype != "auto", "a case has a dtype"
        return self.options.dtype

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one activation."""
        return DTYPE_BYTES[self.dtype]

    @property
    def step_tokens(self) -> int:
        """Tokens of the largest step: a full share of prompts beside a full batch that decodes."""
        return self.options.scheduler.max_prefill_token_num + self.options.scheduler.max_batch_size

    @property
    def session_len(self) -> int:
        """Tokens of a sequence at most, memory allowing."""
        return self.options.scheduler.session_len or self.spec.decoder.max_positions

    @property
    def image_tokens(self) -> int:
        """Tokens of the largest picture; 0 for a text model."""
        vision = self.spec.vision
        return 0 if vision is None else vision.most_tokens

    def prefill_tokens(self, prompt_tokens: int) -> int:
        """Return the tokens of each step in which a lone prompt is read, by the scheduler's own rule."""
        return PromptBudget(self.options.scheduler).next(prompt_tokens, num_decodes=0)


def case_of(config: DeployConfig, spec: ModelSpec, hardware: Hardware) -> Case:
    """Return the case of a config tree; engine=auto as `choose_engine` takes it on such a device."""
    kind = config.engine.kind
    if kind == "auto":
        kind = "turbomind" if proven(hardware) else "pytorch"
    choice = EngineChoice(kind=kind, device="cuda" if hardware.kind == "gpu" else "cpu", reason=None)
    engine = engine_options(config, choice)
    return Case(
        spec=_as_configured(spec, config),
        hardware=hardware,
        options=replace(engine, dtype=_dtype(config, spec, hardware)),
        quant=planned_quant(config.quantization.weights, spec.quantization),
    )


def proven(hardware: Hardware) -> bool:
    """Tell whether engine=turbomind has been run on such a device."""
    return hardware.capability == list(PROVEN)


def _as_configured(spec: ModelSpec, config: DeployConfig) -> ModelSpec:
    """Return the spec with the adapters, rope scaling and tiling of the config.

    null keeps the checkpoint's own.
    """
    engine = config.engine
    decoder = spec.decoder.stretched(
        rope_scaling_factor=engine.rope_scaling_factor, use_logn_attn=engine.use_logn_attn
    )
    spec = replace(spec, decoder=decoder, adapters=adapters_of(engine.adapters))
    if spec.vision is None:
        return spec
    return replace(spec, vision=replace(spec.vision, pixels=configured(spec.vision.pixels, config.vision)))


def _dtype(config: DeployConfig, spec: ModelSpec, hardware: Hardware) -> Dtype:
    """Return the compute dtype.

    auto: float32 on a CPU; on a GPU the checkpoint's own, or float16 where the GPU has no bfloat16.
    """
    if config.engine.dtype != "auto":
        return config.engine.dtype
    if hardware.kind == "cpu":
        return "float32"
    return spec.dtype if spec.dtype != "bfloat16" or supports(hardware, "bfloat16") else "float16"
