"""A YAML file keeps what did not change, comments included."""

import yaml

from deployer.recipes.rewrite import rewrite

TEXT = "# Opening.\n\na: 1   # one\n\n# about b\nb:\n  - x\nc: {d: 2}\n"
OLD = {"a": 1, "b": ["x"], "c": {"d": 2}}


def test_what_is_the_same_stays_byte_for_byte() -> None:
    assert rewrite(TEXT, OLD, OLD) == TEXT


def test_a_changed_key_is_written_anew_and_others_are_kept() -> None:
    new = rewrite(TEXT, OLD, {**OLD, "c": {"d": 3}})
    assert new == TEXT.replace("c: {d: 2}\n", "c:\n  d: 3\n")


def test_new_keys_come_first_and_dropped_ones_go() -> None:
    new = rewrite(TEXT, OLD, {"z": {"y": ["w"]}, "a": 1, "c": {"d": 2}})
    assert new == "# Opening.\n\nz:\n  y:\n    - w\n\na: 1   # one\n\n# about b\nc: {d: 2}\n"
    assert yaml.safe_load(new) == {"z": {"y": ["w"]}, "a": 1, "c": {"d": 2}}
