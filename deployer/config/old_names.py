"""LMDeploy's names of things that are called otherwise here.

On the command line a value that we have is taken as what it is called now; anything else is refused with what
replaces it.
"""

from collections.abc import Mapping

# quant_policy: bits of a number in the cache
QUANT_POLICIES: Mapping[object, str] = {0: "none", 4: "int4", 8: "int8", 16: "fp8"}
# model_format: quantization.weights
MODEL_FORMATS: Mapping[object, str] = {"hf": "none", "awq": "awq", "gptq": "gptq", "fp8": "fp8"}
REPLACED: Mapping[str, tuple[str, Mapping[object, str]]] = {
    "quant_policy": ("quantization.kv", QUANT_POLICIES),
    "model_format": ("quantization.weights", MODEL_FORMATS),
}
# Fields of LMDeploy's configs that are one key here for both engines, or that nothing here has need of.
TOLD: Mapping[str, str] = {
    "engine.block_size": "is now engine.cache_block_seq_len",
    "engine.download_dir": "is now model.download_dir",
    "engine.revision": "is now model.revision",
    "engine.eviction_type": (
        "there is one way, recompute: a sequence that gives up its pages is read again; leave it out"
    ),
    "engine.prefill_interval": (
        "prompts are read in every step, beside answers; engine.num_tokens_per_iter bounds how much of them"
    ),
    "engine.num_cpu_blocks": "pages lie on the engine's device alone, engine.num_gpu_blocks of them",
    "engine.thread_safe": "every client of the engine is safe; leave it out",
    "engine.communicator": "the engine chooses between kernels of its own and NCCL; leave it out",
    "vision.thread_safe": "every client of the engine is safe; leave it out",
    "chat_template.model_name": "is now the name of an option: chat_template=<name>",
}


def today(key: str, value: object) -> tuple[str, object] | None:
    """Return what an old name on the command line, with or without its group, sets now; None: it is none."""
    group, _, name = key.rpartition(".")
    if group not in ("", "engine") or name not in REPLACED:
        return None
    now, values = REPLACED[name]
    return (now, values[value]) if _is_one_of(value, values) else None


def replacement(key: str, value: object) -> str | None:
    """Return the words that say today what an unknown key said; None: it is no old name."""
    if key in TOLD:
        return TOLD[key]
    name = key.rpartition(".")[2]
    if name not in REPLACED:
        return None
    key, values = REPLACED[name]
    if _is_one_of(value, values):
        return f"is now {key}; write {key}={values[value]}"
    meanings = ", ".join(f"{new} for {old}" for old, new in values.items())
    return f"is now {key}: {meanings}"


def _is_one_of(value: object, values: Mapping[object, str]) -> bool:
    """Tell whether a value of YAML, which may be a list or a mapping, has a name of today."""
    return not isinstance(value, (bool, list, Mapping)) and value in values
