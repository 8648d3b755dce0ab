import yaml

from deployer.yaml_text import LOADER, yaml_text

VALUES = {"b": [1, {"c": "x\ny\n"}], "a": {"d": None, "e": "no"}}


def test_what_is_written_reads_back_the_same() -> None:
    assert yaml.load(yaml_text(VALUES), Loader=LOADER) == VALUES


def test_keys_keep_their_order_and_lists_stand_below_theirs() -> None:
    assert yaml_text(VALUES) == "b:\n  - 1\n  - c: |\n      x\n      y\na:\n  d: null\n  e: 'no'\n"


def test_a_value_that_stands_in_two_places_is_written_twice() -> None:
    shared = {"x": 1}
    assert yaml_text({"a": shared, "b": shared}) == "a:\n  x: 1\nb:\n  x: 1\n"
