from pathlib import Path

import pytest

from engines.errors import CheckpointError
from engines.families.config_section import ConfigSection


def test_another_file_of_the_checkpoint_is_read_and_its_faults_are_named(tmp_path: Path) -> None:
    (tmp_path / "tower").mkdir()
    (tmp_path / "tower" / "config.json").write_text('{"vision_config": {"size": -1}}')
    section = ConfigSection({"size": 0}, origin="m/config.json", folder=tmp_path)
    beside = section.beside("tower/config.json")
    assert beside is not None
    beside.nested("vision_config").integer("size")
    section.integer("size")
    with pytest.raises(CheckpointError) as caught:
        section.raise_faults()
    assert str(caught.value) == (
        "m/config.json: `size` is 0: must be a positive integer; "
        "`tower/config.json: vision_config.size` is -1: must be a positive integer"
    )


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert ConfigSection({}, origin="m", folder=tmp_path).beside("other.json") is None
    assert ConfigSection({}, origin="m").beside("other.json") is None


@pytest.mark.parametrize(("text", "rule"), [("{", "must be JSON"), ("[]", "must hold an object")])
def test_a_damaged_file_is_named(tmp_path: Path, text: str, rule: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(CheckpointError, match=rf"cannot read .*other\.json.*{rule}"):
        ConfigSection({}, origin="m", folder=tmp_path).beside("other.json")


@pytest.mark.parametrize(("value", "right"), [(None, True), (True, True), (1, 1.0), ("a", "a"), (3, 3)])
def test_a_key_may_be_absent_or_the_one_value_that_is_read(value: object, right: str | bool | float) -> None:
    section = ConfigSection({"key": value}, origin="m")
    section.must_be("key", right)
    section.must_be("absent", right)
    section.raise_faults()


@pytest.mark.parametrize(
    ("value", "right", "words"),
    [
        (1, True, "must be true: no other is"),
        (True, 1, "must be 1"),
        ("b", "a", "must be a"),
        (2, 3, "must be 3"),
    ],
)
def test_any_other_value_is_a_fault(value: object, right: str | bool | float, words: str) -> None:
    section = ConfigSection({"key": value}, origin="m")
    section.must_be("key", right, why="no other is")
    with pytest.raises(CheckpointError, match=f"`key` is {value!r}: {words}"):
        section.raise_faults()


@pytest.mark.parametrize("value", [None, [], [0], [1, 2.0], [True], "12", [2**40]])
def test_a_list_of_integers_is_of_integers(value: object) -> None:
    section = ConfigSection({"key": value, "good": [0, 3]}, origin="m")
    assert section.integers("good", least=0) == (0, 3)
    assert section.integers("key") == (1,)
    with pytest.raises(CheckpointError, match="must be a list of integers from 1 on"):
        section.raise_faults()
