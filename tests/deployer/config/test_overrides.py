import pytest

from deployer.config.overrides import parse_flags
from deployer.config.tree import config_tree
from deployer.errors import ConfigError, UsageError

TREE = config_tree(None, ())


def fault_of(word: str) -> str:
    with pytest.raises(ConfigError if "=" in word else UsageError) as caught:
        parse_flags([word], TREE)
    return str(caught.value).splitlines()[0]


@pytest.mark.parametrize("word", ["engine=pytorch", "+engine=pytorch", "++engine=pytorch"])
def test_a_group_is_chosen_with_or_without_a_plus(word: str) -> None:
    (flag,) = parse_flags([word], TREE)
    assert (flag.kind, flag.key, flag.value) == ("option", "engine", "pytorch")


def test_a_dotted_key_is_a_value_and_keeps_its_type() -> None:
    (flag,) = parse_flags(["engine.tp=2"], TREE)
    assert (flag.kind, flag.key, flag.value) == ("value", "engine.tp", 2)


def test_a_tilde_deletes() -> None:
    (flag,) = parse_flags(["~vision"], TREE)
    assert flag.kind == "drop"


@pytest.mark.parametrize(
    ("word", "way_out"),
    [
        ("engine.tp", "write engine.tp=<value>"),
        ("model.path=~/x", """quote it twice: "model.path='~/x'\""""),
        ("server.model_name=a=b", "quote it twice"),
        ("engine.adapters=[a=b, c=d]", """quote it twice: "engine.adapters=['a=b','c=d']\""""),
        ("model.repo=http://h:1/p?q=1", "quote it twice"),
        ("=3", "names no key"),
        ("engine.tp=1,2", "for a list write engine.tp=[1,2], for text engine.tp=\"'1,2'\""),
        ("engine=pytorch,turbomind", "one deployment takes one"),
        ("model=nosuch", "none is near it; `deploy list model` lists all 83 options"),
        ("model=", "names no option; `deploy list model` lists all 83 options"),
        ("model=me/tuned", "write +model=<what it was made from> model.repo=me/tuned"),
        ("target=kserve", "write target=kubernetes target.form=kserve"),
        ("target=kuberay", "write target=kubernetes target.form=rayservice"),
        ("vision=null", "options of vision: `default`"),
        ("engine={tp: 4}", "engine takes the name of an option; options of engine: `auto`, `pytorch`"),
        ("engine=3", "engine takes the name of an option"),
        ("engine=turbo", "nearest options: `turbomind`"),
        ("engine=_runtime", "options: `auto`, `pytorch`, `turbomind`"),
        ("engine=../server/openai", "unknown engine"),
        ("model=internvl2_8", "nearest options: `internvl2_8b`"),
        ("+draft@second=x", "unknown group `draft`; known groups: "),
        ("hydra.run.dir=x", "use --config-dir DIR"),
    ],
)
def test_a_word_that_cannot_be_used_is_named_with_the_way_out(word: str, way_out: str) -> None:
    fault = fault_of(word)
    assert way_out in fault
    assert word in fault


def test_all_words_are_judged_not_only_the_first() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_flags(["engine=turbo", "x=a=b", "vision=null", "engine.tp=2"], TREE)
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (
            ["engine.tp=1", "+engine.tp=2"],
            "`engine.tp` (command line `engine.tp=1`, `+engine.tp=2`): is given 2 times; keep one of them",
        ),
        (
            ["engine=pytorch", "engine.tp=2", "engine=pytorch"],
            "`engine` (command line `engine=pytorch`, `engine=pytorch`): is given 2 times; keep one of them",
        ),
    ],
)
def test_what_is_given_twice_is_named_with_both_words(words: list[str], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_flags(words, TREE)
    assert list(caught.value.faults) == [fault]


def test_a_mapping_is_emptied_and_then_filled_and_its_keys_are_set_behind_it() -> None:
    words = ["~target.labels", "target.labels={a: b}", "target.labels.c=d"]
    assert [flag.kind for flag in parse_flags(words, TREE)] == ["delete", "value", "value"]


def test_the_quoted_form_that_a_message_offers_is_read_as_the_text() -> None:
    (flag,) = parse_flags(["model.path='~/x'"], TREE)
    assert flag.value == "~/x"


def test_nothing_advises_to_add_an_unknown_key() -> None:
    for word in ("engine=turbo", "engin@x=torch", "vision=null"):
        assert "use +" not in fault_of(word)
