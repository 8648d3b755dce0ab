from dataclasses import replace

import pytest
from plan_cases import spec

from deployer.config.schema import QuantizationConfig
from deployer.errors import ConfigError
from deployer.generation.weight_format import check_weight_format
from engines.quant.weight_quant import WeightQuant

PLAIN = spec("1b")
AWQ = replace(PLAIN, quantization=WeightQuant(format="awq", group_size=128))


@pytest.mark.parametrize("asked", ["auto", "none"])
def test_an_unquantized_checkpoint_is_what_auto_and_none_ask_for(asked: str) -> None:
    check_weight_format(QuantizationConfig(weights=asked, kv="none"), PLAIN, origin="m")  # type: ignore[arg-type]  # a parameter


@pytest.mark.parametrize("asked", ["auto", "awq"])
def test_a_quantized_checkpoint_is_what_auto_and_its_own_format_ask_for(asked: str) -> None:
    check_weight_format(QuantizationConfig(weights=asked, kv="none"), AWQ, origin="m")  # type: ignore[arg-type]  # a parameter


@pytest.mark.parametrize(
    ("asked", "held", "words"),
    [
        ("none", AWQ, "m holds awq weights; use quantization=auto, which takes what is there"),
        (
            "gptq",
            AWQ,
            "m holds awq weights; use quantization=auto, which takes what is there, or quantization=awq",
        ),
        ("awq", PLAIN, "m holds bfloat16 weights that are not quantized; use quantization=auto"),
        ("int8", PLAIN, "or make a quantized copy with `deploy quantize quantization=smooth_quant`"),
    ],
)
def test_another_format_is_refused_with_what_the_folder_holds(asked: str, held: object, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_weight_format(QuantizationConfig(weights=asked, kv="none"), held, origin="m")  # type: ignore[arg-type]  # parameters
    assert words in str(caught.value)
