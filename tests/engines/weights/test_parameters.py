"""The walk over names and shapes against the released InternVL sizes and their published parameter counts."""

from dataclasses import replace
from math import prod
from typing import Any

import pytest
from internvl_golden import CASES, golden

from engines.families import read_spec
from engines.weights.parameters import parameters
from engines.weights.split import local_shape

VIT_300M = {
    "hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24, "intermediate_size": 4096,
    "norm_type": "layer_norm", "qk_normalization": False, "qkv_bias": True, "image_size": 448,
}  # fmt: skip
VIT_6B = {
    "hidden_size": 3200, "num_attention_heads": 25, "num_hidden_layers": 45, "intermediate_size": 12800,
    "norm_type": "rms_norm", "qk_normalization": True, "qkv_bias": False, "image_size": 448,
}  # fmt: skip


def decoder(
    architecture: str, hidden: int, layers: int, heads: int, kv_heads: int, ffn: int, vocab: int
) -> Any:
    return {
        "architectures": [architecture], "hidden_size": hidden, "num_hidden_layers": layers, "bias": False,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "intermediate_size": ffn,
        "vocab_size": vocab,
    }  # fmt: skip


# Vision config, language config, billions of parameters as the model cards give them.
SIZES = {
    "1b": (VIT_300M, decoder("Qwen2ForCausalLM", 896, 24, 14, 2, 4864, 151655), 0.938),
    "2b": (VIT_300M, decoder("InternLM2ForCausalLM", 2048, 24, 16, 8, 8192, 92553), 2.206),
    "4b": (VIT_300M, decoder("Phi3ForCausalLM", 3072, 32, 32, 32, 8192, 32020), 4.147),
    "8b": (VIT_300M, decoder("InternLM2ForCausalLM", 4096, 32, 32, 8, 14336, 92553), 8.076),
    "26b": (VIT_6B, decoder("InternLM2ForCausalLM", 6144, 48, 48, 8, 16384, 92553), 25.51),
    "40b": (VIT_6B, decoder("LlamaForCausalLM", 7168, 60, 56, 8, 20480, 64000), 40.07),
    "76b": (VIT_6B, decoder("LlamaForCausalLM", 8192, 80, 64, 8, 28672, 128265), 76.26),
}
CONFIG = {"model_type": "internvl_chat", "ps_version": "v2", "dynamic_image_size": True}


@pytest.mark.parametrize("size", SIZES)
def test_released_sizes_have_the_published_number_of_parameters(size: str) -> None:
    vision, language, billions = SIZES[size]
    spec = read_spec(CONFIG | {"vision_config": vision, "llm_config": language}, origin=size)
    total = sum(prod(parameter.shape) for parameter in parameters(spec))
    assert total / 1e9 == pytest.approx(billions, rel=2e-3)


@pytest.mark.parametrize(
    ("size", "tp"),
    [
        (size, tp)
        for size, (_, language, _) in SIZES.items()
        for tp in (2, 4, 8)
        if language["num_attention_heads"] % tp == 0
    ],
)
def test_ranks_hold_their_share_of_the_decoder_and_the_whole_tower(size: str, tp: int) -> None:
    vision, language, _ = SIZES[size]
    spec = read_spec(CONFIG | {"vision_config": vision, "llm_config": language}, origin=size)
    for parameter in parameters(spec):
        whole, local = prod(parameter.shape), prod(local_shape(parameter, tp=tp))
        if parameter.split in ("rows", "cols"):
            replicated = parameter.blocks and parameter.blocks[-1].num_units < tp
            assert local > whole // tp if replicated else local == whole // tp
        elif parameter.split == "vocab":
            assert whole / tp <= local < whole / tp + 64 * prod(parameter.shape[1:])
        else:
            assert local >= whole


@pytest.mark.parametrize("case", CASES)
def test_names_are_unique(case: str) -> None:
    names = [parameter.name for parameter in parameters(golden(case).spec)]
    assert len(set(names)) == len(names)


def test_a_text_model_has_no_vision_parameters() -> None:
    spec = replace(golden("qwen2").spec, vision=None)
    assert all(parameter.name.startswith("decoder.") for parameter in parameters(spec))
