"""The words of a sweep: which keys vary, over what, and what can't be swept."""

import pytest

from deployer.config.tree import config_tree
from deployer.errors import ConfigError
from deployer.sweeps.space import Interval, read_space, refuse_intervals

TREE = config_tree(None, ())


def values(word: str) -> tuple[str, ...]:
    (axis,) = read_space([word], TREE).axes
    return axis.values


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("engine.max_batch_size=32,64", ("32", "64")),
        ("engine.max_batch_size=range(1,8,3)", ("1", "4", "7")),
        ("engine.cache_max_entry_count=range(0.5,1,0.25)", ("0.5", "0.75")),
        ("quantization=choice(none,awq)", ("none", "awq")),
        ("bench.concurrency=[1],[1,8]", ("[1]", "[1,8]")),
        ("model=glob(internvl2_2*)", ("internvl2_26b", "internvl2_2b")),
    ],
)
def test_every_form_of_hydras_grammar_lists_its_values(word: str, expected: tuple[str, ...]) -> None:
    assert values(word) == expected


def test_the_last_axis_turns_fastest_and_plain_words_stay_with_every_point() -> None:
    space = read_space(["+model=a,b", "engine.tp=1", "vision.max_tiles=6,12", "ops/prod.yaml"], TREE)
    assert space.fixed == ("engine.tp=1", "ops/prod.yaml")
    assert list(space.grid()) == [
        ("+model=a", "vision.max_tiles=6"),
        ("+model=a", "vision.max_tiles=12"),
        ("+model=b", "vision.max_tiles=6"),
        ("+model=b", "vision.max_tiles=12"),
    ]
    assert space.num_combinations == 4


@pytest.mark.parametrize(
    ("word", "interval"),
    [
        ("x=interval(0.5,0.9)", Interval(low=0.5, high=0.9, is_log=False, is_int=False)),
        ("x=int(interval(1,64))", Interval(low=1, high=64, is_log=False, is_int=True)),
        ("x=tag(log,int(interval(1,64)))", Interval(low=1, high=64, is_log=True, is_int=True)),
    ],
)
def test_intervals_are_for_a_search_and_refused_by_a_grid(word: str, interval: Interval) -> None:
    space = read_space([word], TREE)
    assert space.axes[0].interval == interval
    with pytest.raises(ConfigError, match=r"or choose sweep=optuna"):
        refuse_intervals(space)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["engine.tp=1"], "a sweep needs a key with several values"),
        (["engine.tp=1,1"], "gives a value twice"),
        (["engine.tp=1,2", "engine.tp=4"], "`engine.tp`: is given twice"),
        (["engine.tp=range(3,3)"], "holds no value; the end of a range is left out"),
        (["engine.tp=range(1,100000000000)"], "has more than 100,000 values; widen its step"),
        (["engine.tp=range(1,1e9,0.5)"], "has more than 100,000 values; widen its step"),
        (["model=glob(gone*)"], "matches no option; options of model: `"),
        (["x=interval(2,1)"], "must rise"),
        (["x=tag(log,interval(0,1))"], "a logarithm needs numbers above 0"),
        (["x=tag(lin,interval(0,1))"], "the one tag that is read is log"),
        (["bench.url=http://a,http://b"], "`bench.url`: a sweep measures engines that it starts"),
        (["engine.tp=1,2", "server.api_keys=[k]"], "`server.api_keys`: is kept in no file"),
        (["engine.tp=1,2", "bench.output=json"], "write output=json"),
    ],
)
def test_what_cannot_be_swept_is_refused(words: list[str], fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_space(words, TREE)
    assert fault in str(raised.value)


def test_a_grid_beyond_all_reason_is_refused() -> None:
    with pytest.raises(ConfigError, match="the grid has 1,000,000 points"):
        refuse_intervals(read_space(["a=range(0,1000)", "b=range(0,1000)"], TREE))
