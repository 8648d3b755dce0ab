import pytest

from deployer.config.overrides import Flag, parse_flags
from deployer.config.tree import config_tree
from deployer.errors import UsageError
from deployer.recipes.flag_values import chosen_options, with_values


def flags(*words: str) -> list[Flag]:
    return parse_flags(words, config_tree(None, ()))


def test_a_flag_adds_to_what_a_recipe_sets_already() -> None:
    old = {"server": {"port": 9000}}
    assert with_values(old, flags("server.host=::", "engine=pytorch")) == {
        "server": {"port": 9000, "host": "::"}
    }
    assert old == {"server": {"port": 9000}}, "what was given stays"


def test_options_are_told_by_their_group() -> None:
    assert chosen_options(flags("engine=pytorch", "engine.tp=2")) == {"engine": "pytorch"}


@pytest.mark.parametrize("word", ["~server.port", "~vision"])
def test_a_key_is_never_taken_out(word: str) -> None:
    with pytest.raises(UsageError, match="a recipe can't take a key out; set it to null"):
        with_values({}, flags(word))
