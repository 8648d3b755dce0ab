from pathlib import Path

import pytest

from engines.weights.companion_folder import companion_folder


@pytest.mark.parametrize("place", ["checkpoint/tower", "tower"])
def test_a_checkpoint_named_from_here_finds_its_companion(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert companion_folder(Path("checkpoint"), "somewhere/tower") == tmp_path / place


def test_a_companion_that_is_nowhere_is_none(tmp_path: Path) -> None:
    assert companion_folder(tmp_path, "tower") is None
