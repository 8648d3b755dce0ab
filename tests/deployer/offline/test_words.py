"""Arguments of `pipeline` as words of the command line."""

from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from deployer.config.load import load_config
from deployer.errors import ConfigError, UsageError
from deployer.offline.words import deployment_words


def words(model: Any, *overrides: str, **groups: Any) -> list[str]:
    return deployment_words(model, overrides, groups)


def test_models(tmp_path: Path) -> None:
    assert words("pocket_vl") == ["+model=pocket_vl"]
    assert words(tmp_path)[0] == "+model=local"
    assert words(str(tmp_path)) == words(tmp_path)
    assert words("opengvlab/InternVL2-8B") == ["+model=internvl2_8b"]
    assert words("ops/prod.yaml", "engine.tp=2") == ["ops/prod.yaml", "engine.tp=2"]
    assert words("nobody/nothing") == ["+model=local", "model.path=nobody/nothing"]


def test_overrides_stand_beside_keywords_and_a_key_is_set_once() -> None:
    found = words("internvl2_8b", "engine.tp=4", engine="turbomind", quantization={"kv": "int8"})
    assert found == ["+model=internvl2_8b", "engine=turbomind", "quantization.kv=int8", "engine.tp=4"]
    with pytest.raises(ConfigError, match=r"`engine.tp=2`, `engine.tp=4`.: is given 2 times"):
        load_config(words("internvl2_8b", "engine.tp=4", engine={"tp": 2}))


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -2.5, 1e-9, "plain", "true", "null", "12", "", "two words", "it's", "a\\", "a\\'b",
        "say \"x\", y: {z} [w]", "$HOME", "ünï", "line\nbreak", [1, "a b", None], [], {},
    ],
)  # fmt: skip
def test_any_value_survives_the_grammar(value: Any) -> None:
    [_, word] = words("pocket_vl", chat_template={"system": value})
    override = OverridesParser.create().parse_override(word)
    assert override.value() == value or (isinstance(value, str) and str(override.value()) == value)


def test_arguments_of_lmdeploy_are_all_told_what_says_the_same_here() -> None:
    with pytest.raises(UsageError) as told:
        words("pocket_vl", backend_config=object(), vision_config=object(), trust_remote_code=True)
    faults = str(told.value).splitlines()
    assert [fault.split("`")[1] for fault in faults] == [
        "backend_config",
        "vision_config",
        "trust_remote_code",
    ]
    assert '"engine.tp=2"' in faults[0]


def test_arguments_of_lmdeploy_that_were_plain_values_are_told_too() -> None:
    with pytest.raises(UsageError) as told:
        words("pocket_vl", model_name="vicuna", log_level="INFO", tp=2, speculative_config=object())
    assert [line.split("; write ")[1][:16] for line in str(told.value).splitlines()] == [
        'chat_template="<',
        "logging.getLogge",
        '"engine.tp=2"',
        '"engine.speculat',
    ]


def test_an_override_is_text() -> None:
    with pytest.raises(UsageError, match=r"^3: is no word of the command line; write text as"):
        words("pocket_vl", 3)  # type: ignore[arg-type]


def test_mappings_become_keys() -> None:
    found = words("pocket_vl", engine={"a": {"b": {"c": 1}}})
    assert found[1:] == ["engine.a.b.c=1"]


@pytest.mark.parametrize("value", [float("nan"), object, {1, 2}])
def test_a_value_without_words_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="an option is text"):
        words("pocket_vl", engine={"tp": value})
