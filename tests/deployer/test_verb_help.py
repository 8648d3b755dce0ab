"""Help of each verb: complete, and with examples that are what they say."""

import shlex

import pytest

from deployer.cli import main
from deployer.command_words import parse
from deployer.config.load import load_for_verb
from deployer.verb_help import WIDTH, verb_help
from deployer.verbs import VERBS

EXAMPLES = [(name, command) for name, verb in VERBS.items() for command, _ in verb.examples]


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_has_usage_at_least_three_examples_and_its_keys_with_comments(name: str) -> None:
    text = verb_help(name)
    assert text.startswith(f"usage: deploy {name} ")
    assert len(VERBS[name].examples) >= 3
    for group in VERBS[name].groups:
        assert f"Keys (conf/{group.name}/{group.option}.yaml)" in text
    assert max(map(len, text.splitlines())) <= WIDTH + 20


@pytest.mark.parametrize(("name", "command"), EXAMPLES)
def test_an_example_is_a_command_of_its_verb(name: str, command: str) -> None:
    words = shlex.split(
        command.partition(" > ")[0].partition(" >> ")[0].removeprefix("source <(").rstrip(")")
    )
    assert words[0] == "deploy"
    parsed = parse(words[1:])
    assert parsed.name == name
    asks_a_server = parsed.verb.instead is not None and parsed.words[0].startswith(parsed.verb.instead[0])
    if parsed.verb.takes == "deployment" and not asks_a_server:
        load_for_verb(parsed.verb, parsed.words)  # raises where the config tree would not take it


@pytest.mark.parametrize("words", [["bench", "--help"], ["help", "bench"], ["bench", "-h", "+model=x"]])
def test_help_stands_before_and_after_the_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "  bench.concurrency=[1, 8]  requests that run at once; one row each\n" in out


def test_help_of_a_verb_that_is_none_names_the_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["srve", "--help"]) == 2
    assert "nearest verbs: `serve`" in capsys.readouterr().err


def test_the_help_of_recipe_lists_its_sub_verbs() -> None:
    assert "deploy recipe lock RECIPE" in verb_help("recipe")
    assert "deploy sweep promote RUN point=3" in verb_help("sweep")
