"""What a sweep may be told of itself."""

from typing import Any

import pytest
from sweep_results import options

from deployer.errors import ConfigError
from deployer.sweeps.options import as_words, check_options


@pytest.mark.parametrize("name", ["default", "optuna"])
def test_what_ships_holds(name: str) -> None:
    check_options(options(name))


def test_the_words_of_a_search_ask_for_the_same_search() -> None:
    told = as_words(options("optuna", trials=8, questions=20, objectives=["tokens_per_s", "accuracy"]))
    assert told == [
        "sweep=optuna",
        "sweep.objectives=[tokens_per_s,accuracy]",
        "sweep.trials=8",
        "sweep.seed=0",
        "sweep.questions=20",
    ]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"objectives": ["tokens_per_sec"]}, "nearest figures: `tokens_per_s`"),
        ({"objectives": []}, "must name at least one figure"),
        ({"objectives": ["accuracy"]}, "set sweep.questions=<how many are asked>"),
        ({"timeout_s": 0.0}, "sweep.timeout_s=0.0: must be above 0"),
        ({"devices": [0, 0]}, "each once"),
        ({"trials": 5}, "sweep.trials=5: a grid has no use for it; choose sweep=optuna"),
        ({"kind": "optuna"}, "sweep.trials=null: a search needs one"),
        ({"name": "a/b"}, "its place is sweep.folder"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_options(options(**change))
    assert fault in str(raised.value)
