import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest

from deployer.config.load import load_for_verb
from deployer.config.schema import DeployConfig
from deployer.errors import ConfigError
from deployer.verb import OptionGroup, Verb

MODEL = "+model=internvl2_2b"


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceOptions:
    """The options of a verb that only this test has."""

    output: Literal["table", "json"]
    laps: int


@pytest.fixture
def race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Verb, list[Path]]:
    """Return a verb with a group of its own, and the folder that holds it."""
    module = ModuleType("deployer.race")
    module.RaceOptions = RaceOptions  # type: ignore[attr-defined]  # a module made for this test
    monkeypatch.setitem(sys.modules, "deployer.race", module)
    (tmp_path / "race").mkdir()
    (tmp_path / "race/default.yaml").write_text("output: table\nlaps: 3\n")
    (tmp_path / "race/long.yaml").write_text("output: table\nlaps: 99\n")
    group = OptionGroup(name="race", option="default", kind="deployer.race:RaceOptions")
    return Verb(section="Run", summary="", usage="", examples=(), run="deployer.race:run", groups=(group,)), [
        tmp_path
    ]


def test_a_verb_gets_the_deployment_and_its_own_options(race: tuple[Verb, list[Path]]) -> None:
    verb, folders = race
    config, options = load_for_verb(verb, [MODEL, "race.laps=5"], config_dirs=folders)
    assert isinstance(config, DeployConfig)
    assert options == RaceOptions(output="table", laps=5)


@pytest.mark.parametrize("word", ["race=long", "+race=long"])
def test_the_group_of_a_verb_has_options_too(race: tuple[Verb, list[Path]], word: str) -> None:
    verb, folders = race
    assert load_for_verb(verb, [MODEL, word], config_dirs=folders)[1].laps == 99


def test_output_is_short_for_the_groups_own(race: tuple[Verb, list[Path]]) -> None:
    verb, folders = race
    assert load_for_verb(verb, [MODEL, "output=json"], config_dirs=folders)[1].output == "json"


def test_faults_of_the_deployment_and_of_the_options_come_together(race: tuple[Verb, list[Path]]) -> None:
    verb, folders = race
    with pytest.raises(ConfigError) as caught:
        load_for_verb(verb, [MODEL, "race.lap=5", "engine.tp=x"], config_dirs=folders)
    assert len(caught.value.faults) == 2
    assert "nearest keys: `race.laps`" in str(caught.value)


def test_a_verb_that_takes_options_alone_needs_no_model(race: tuple[Verb, list[Path]]) -> None:
    verb, folders = race
    alone = Verb(
        section="Run", summary="", usage="", examples=(), run=verb.run, takes="options", groups=verb.groups
    )
    assert load_for_verb(alone, ["race.laps=1"], config_dirs=folders) == [RaceOptions(output="table", laps=1)]


def test_a_verb_that_takes_options_alone_refuses_keys_of_a_deployment(race: tuple[Verb, list[Path]]) -> None:
    verb, folders = race
    alone = Verb(
        section="Run", summary="", usage="", examples=(), run=verb.run, takes="options", groups=verb.groups
    )
    with pytest.raises(ConfigError, match="unknown key `engine`"):
        load_for_verb(alone, ["engine.tp=2"], config_dirs=folders)


def test_the_group_of_one_verb_is_unknown_to_the_others(race: tuple[Verb, list[Path]]) -> None:
    serve = Verb(section="Run", summary="", usage="", examples=(), run="deployer.race:run")
    with pytest.raises(ConfigError, match="unknown key `race`"):
        load_for_verb(serve, [MODEL, "race.laps=5"], config_dirs=race[1])
