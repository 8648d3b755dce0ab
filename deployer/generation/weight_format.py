"""Whether a checkpoint's weights are what `quantization.weights` asks for. Torch-free."""

from deployer.config.schema import QuantizationConfig
from deployer.errors import ConfigError
from engines.spec import ModelSpec

# quantization.weights: the option that makes such a checkpoint
OPTIONS = {"awq": "awq", "gptq": "gptq", "int8": "smooth_quant", "fp8": "fp8"}


def check_weight_format(asked: QuantizationConfig, spec: ModelSpec, *, origin: str) -> None:
    """Raise ConfigError where an explicit format is not the checkpoint's; `origin` names that in messages."""
    held = "none" if spec.quantization is None else spec.quantization.format
    if asked.weights in ("auto", held):
        return
    ways = ["use quantization=auto, which takes what is there"]
    if held == "none":
        ways.append(f"make a quantized copy with `deploy quantize quantization={OPTIONS[asked.weights]}`")
    elif asked.weights != "none":
        ways.append(f"quantization={OPTIONS[held]}")
    has = f"{spec.dtype} weights that are not quantized" if held == "none" else f"{held} weights"
    raise ConfigError([f"quantization.weights={asked.weights}: {origin} holds {has}; {', or '.join(ways)}"])
