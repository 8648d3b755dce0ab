import pytest

from deployer.cli import main
from deployer.config import load_config
from deployer.errors import ConfigError

MODEL = "+model=internvl2_8b"


@pytest.mark.parametrize(
    ("word", "format"),
    [
        ("engine.quant_policy=8", "int8"),
        ("+engine.quant_policy=4", "int4"),
        ("quant_policy=0", "none"),
        ("engine.quant_policy=16", "fp8"),
    ],
)
def test_an_old_name_on_the_command_line_sets_what_it_is_called_now(word: str, format: str) -> None:
    assert load_config([MODEL, "quantization=awq", word]).quantization.kv == format
    assert load_config([MODEL, word, "quantization=awq"]).quantization.weights == "awq"


def test_an_old_name_of_the_weights_is_taken_too() -> None:
    assert load_config([MODEL, "engine.model_format=awq"]).quantization.weights == "awq"


def test_explain_shows_the_word_that_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "quantization.kv", MODEL, "engine.quant_policy=8"]) == 0
    out = capsys.readouterr().out
    assert "int8" in out and "engine.quant_policy=8" in out


@pytest.mark.parametrize(
    "word", ["engine.quant_policy=[4,8]", "engine.quant_policy={a:1}", "engine.model_format=[awq]"]
)
def test_a_value_that_no_old_name_had_is_told_what_there_is(word: str) -> None:
    with pytest.raises(ConfigError, match=r"is now quantization\.(kv|weights): "):
        load_config([MODEL, word])


def test_explain_of_an_old_name_tells_the_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "engine.quant_policy", MODEL]) == 2
    assert "`engine.quant_policy`: is now quantization.kv: none for 0, int4 for 4" in capsys.readouterr().err
