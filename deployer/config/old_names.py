"""LMDeploy's names of things that are called otherwise here, so that a message can say what replaces them."""

from collections.abc import Mapping

# quant_policy: bits of a number in the cache
QUANT_POLICIES: Mapping[object, str] = {0: "none", 4: "int4", 8: "int8", 16: "fp8"}
# model_format: quantization.weights
MODEL_FORMATS: Mapping[object, str] = {"hf": "none", "awq": "awq", "gptq": "gptq", "fp8": "fp8"}
REPLACED: Mapping[str, tuple[str, Mapping[object, str]]] = {
    "quant_policy": ("quantization.kv", QUANT_POLICIES),
    "model_format": ("quantization.weights", MODEL_FORMATS),
}


def replacement(name: str, value: object) -> str | None:
    """Return the words that say the same today; None: it is no old name."""
    if name not in REPLACED:
        return None
    key, values = REPLACED[name]
    if value in values:
        return f"is now {key}; write {key}={values[value]}"
    meanings = ", ".join(f"{new} for {old}" for old, new in values.items())
    return f"is now {key}: {meanings}"
