import pytest
from deployed import deployed

from deployer.config.hyper_parameters import max_positions, num_heads, num_kv_heads, without_factor_lists


@pytest.mark.parametrize(
    ("model", "heads", "kv_heads", "positions"),
    [
        ("internvl2_8b", 32, 8, 65536),  # llm_config, dynamic x2
        ("internvl2_26b", 48, 8, 98304),  # dynamic x3
        ("internvl2_4b", 32, 32, 131072),
        ("internvl3_2b", 12, 2, 32768),  # text_config
        ("deepseek_vl_7b_chat", 32, 32, 16384),  # language_config
        ("qwen2_vl_7b", 28, 4, 32768),  # top level, beside a vision_config with heads of its own
        ("glm_4v_9b", 32, 2, 8192),  # multi-query groups
        ("cogvlm_chat", 32, 32, 2048),
        ("cogvlm2_llama3_chat_19b", 32, 8, 8192),
        ("qwen_vl_chat", 32, 32, 8192),
        ("llama2_7b", 32, 32, 4096),
    ],
)
def test_the_decoder_is_found_whatever_it_is_nested_in(
    model: str, heads: int, kv_heads: int, positions: int
) -> None:
    parameters = deployed(model).model.hyper_parameters
    assert parameters is not None
    assert (num_heads(parameters), num_kv_heads(parameters), max_positions(parameters)) == (
        heads,
        kv_heads,
        positions,
    )


def test_what_is_not_there_is_none() -> None:
    assert (num_heads({}), num_kv_heads({}), max_positions({})) == (None, None, None)


def test_factors_that_only_the_checkpoint_has_are_ones_and_others_stay() -> None:
    scaling = {"type": "su", "short_factor": None, "long_factor": [2.0, 3.0]}
    nested = {"hidden_size": 16, "num_attention_heads": 4, "rope_scaling": scaling}
    filled = without_factor_lists({"llm_config": nested, "rope_scaling": None})
    assert filled["llm_config"]["rope_scaling"] == {
        "type": "su",
        "short_factor": [1.0, 1.0],
        "long_factor": [2.0, 3.0],
    }
    assert filled["rope_scaling"] is None
    assert scaling["short_factor"] is None
    linear = {"hidden_size": 16, "num_attention_heads": 4, "rope_scaling": {"type": "linear", "factor": 2.0}}
    assert without_factor_lists(linear) == linear
