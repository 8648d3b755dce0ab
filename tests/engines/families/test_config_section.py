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
