"""The weights that a deployment runs: those of its checkpoint, held to `quantization.weights`. Torch-free."""

from dataclasses import replace
from typing import Literal

from deployer.config.schema import DeployConfig, QuantizationConfig
from deployer.errors import ConfigError
from deployer.generation.open_model import OpenedModel
from engines.quant.weight_quant import WeightFormat, WeightQuant
from engines.spec import ModelSpec

# Inputs that share a scale: conf/quantize/default.yaml, and the published checkpoints.
GROUP_SIZE = 128

# quantization.weights: the option that makes such a checkpoint
OPTIONS = {"awq": "awq", "gptq": "gptq", "int8": "smooth_quant", "fp8": "fp8"}


def with_weights(config: DeployConfig, model: OpenedModel) -> OpenedModel:
    """Return the model as it is to be loaded: random weights come in any format, a checkpoint's in its own.

    bfloat16 may become bf12 on the way. Raises ConfigError where an explicit format is not the checkpoint's.
    """
    asked, is_random = config.quantization.weights, config.engine.load_format == "random"
    if not is_random or asked == "bf12":
        check_weight_format(config.quantization, model.spec, origin=str(model.folder))
    if not is_random and asked != "bf12":
        return model
    quant = planned_quant(asked, model.spec.quantization)
    return replace(model, spec=replace(model.spec, quantization=quant))


def planned_quant(
    asked: Literal["auto", "none"] | WeightFormat, held: WeightQuant | None
) -> WeightQuant | None:
    """Return what a checkpoint holds or becomes, or would hold after `deploy quantize` by default."""
    if asked == "auto" or (held is not None and asked == held.format):
        return held
    if asked == "none":
        return None
    group_size = GROUP_SIZE if asked in ("awq", "gptq") else None
    return WeightQuant(format=asked, group_size=group_size, decoder_only=True)


def check_weight_format(asked: QuantizationConfig, spec: ModelSpec, *, origin: str) -> None:
    """Raise ConfigError where an explicit format is not the checkpoint's; `origin` names that in messages."""
    held = "none" if spec.quantization is None else spec.quantization.format
    if asked.weights == "bf12" and held == "none" and spec.dtype == "bfloat16":
        return
    if asked.weights in ("auto", held):
        return
    has = f"{spec.dtype} weights that are not quantized" if held == "none" else f"{held} weights"
    ways = ["use quantization=auto, which takes what is there"]
    if asked.weights == "bf12":
        has += ", and 12 bits are made of bfloat16 alone"
    elif held == "none":
        ways.append(f"make a quantized copy with `deploy quantize quantization={OPTIONS[asked.weights]}`")
    elif asked.weights != "none":
        ways.append(f"quantization={OPTIONS[held]}")
    raise ConfigError([f"quantization.weights={asked.weights}: {origin} holds {has}; {', or '.join(ways)}"])
