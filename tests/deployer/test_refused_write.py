"""Places that cannot be written, by every command that writes."""

import errno
from pathlib import Path

import pytest

from deployer.cli import main
from deployer.errors import EXIT_UNAVAILABLE, UnavailableError
from deployer.refused_write import writing

POCKET = ["+model=pocket_vl", "hardware=cpu"]
COMMANDS = {
    "render": ["render", *POCKET, "target=compose", "render.out={}"],
    "recipe new": ["recipe", "new", "{}/mine.yaml", "+model=pocket_vl"],
    "up": ["up", "+model=pocket_vl", "target.state_dir={}"],
    "status": ["status", "+model=pocket_vl", "target.state_dir={}"],
    "sweep": ["sweep", "run", "+model=pocket_vl", "engine.max_batch_size=1,2", "sweep.folder={}"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_cannot_be_written_is_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    place = tmp_path / "file" / "below"
    assert main([word.format(place) for word in COMMANDS[command]]) == EXIT_UNAVAILABLE
    told = capsys.readouterr().err
    assert str(place) in told and "cannot be written: Not a directory; name a place" in told
    assert "Traceback" not in told


def test_a_lock_of_up_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pocket_vl.lock").mkdir()
    assert main(["up", "+model=pocket_vl", f"target.state_dir={tmp_path}"]) == EXIT_UNAVAILABLE
    assert "pocket_vl.lock cannot be written: Is a directory; name a place" in capsys.readouterr().err


def test_a_full_disk_is_left_to_the_command_line() -> None:
    with pytest.raises(OSError, match="No space left"), writing(Path("x")):
        raise OSError(errno.ENOSPC, "No space left on device", "x")


def test_a_refusal_without_a_file_names_the_place() -> None:
    with (
        pytest.raises(UnavailableError, match=r"^x cannot be written: Permission denied"),
        writing(Path("x")),
    ):
        raise PermissionError(errno.EACCES, "Permission denied")
