"""The hyper-parameters in conf/model describe networks of the released number of weights."""

from math import prod

import pytest
from deployed import deployed

from deployer.config.hyper_parameters import without_factor_lists
from engines.families import read_spec
from engines.weights.parameters import parameters

# Millions of weights, as the hub counts the released safetensors; a tied head counts once.
RELEASED = {
    "cogvlm2_llama3_chat_19b": 19_503,
    "internlm2_7b": 7_738,
    "internvl3_8b": 7_944,
    "internvl3_38b": 38_388,
    "llama2_7b": 6_738,
    "llama3_8b": 8_030,
    "llama3_70b": 70_554,
    "mistral_7b": 7_248,
    "minicpm_llama3_v_2_5": 8_537,
    "phi_3_mini": 3_821,
    "phi_3_vision_128k": 4_147,
    "qwen2_5_7b": 7_616,
    "qwen2_5_vl_3b": 3_755,
    "qwen2_5_vl_7b": 8_292,
    "qwen2_5_vl_72b": 73_411,
    "qwen2_vl_2b": 2_209,
    "qwen2_vl_7b": 8_291,
    "qwen_vl_chat": 9_657,
    "yi_34b": 34_389,
}


@pytest.mark.parametrize("model", sorted(RELEASED))
def test_the_network_has_the_released_number_of_weights(model: str) -> None:
    config = deployed(model).model
    assert config.hyper_parameters is not None
    spec = read_spec(without_factor_lists(config.hyper_parameters), origin=model)
    assert spec.family == config.family
    count = sum(prod(parameter.shape) for parameter in parameters(spec) if not parameter.optional)
    assert round(count / 1e6) == RELEASED[model]
