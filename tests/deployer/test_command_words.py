from pathlib import Path

import pytest

from deployer.command_words import parse
from deployer.errors import UsageError


def test_the_verb_is_the_first_bare_word_and_serve_without_one() -> None:
    assert parse(["+model=x", "engine.tp=2"]).name == "serve"
    assert parse(["prod.yaml", "engine.tp=2"]).name == "serve"
    command = parse(["explain", "engine.tp", "--config-dir=a", "--config-dir", "b", "+model=x"])
    assert (command.name, command.words) == ("explain", ["engine.tp", "+model=x"])
    assert command.config_dirs == [Path("a"), Path("b")]


def test_flags_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="known flags: `--config-dir`, `--help`, `--multirun`"):
        parse(["--cfg", "+model=x"])


def test_a_flag_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="--against: is given twice; keep one of them"):
        parse(["plan", "--against", "http://a", "--against=http://b"])
