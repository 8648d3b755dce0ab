import os
import subprocess
import sys
from pathlib import Path

from engines.ipc.owned_folder import OwnedFolder

DIES = """
import os, sys
from pathlib import Path
from engines.ipc.owned_folder import OwnedFolder
print(OwnedFolder(Path(sys.argv[1]), "x-").path, flush=True)
os.kill(os.getpid(), 9)
"""


def test_only_its_user_can_enter_a_folder(tmp_path: Path) -> None:
    folder = OwnedFolder(tmp_path, "x-")
    assert folder.path.stat().st_mode & 0o077 == 0
    assert folder.path.stat().st_uid == os.getuid()
    folder.close()


def test_a_closed_folder_is_gone_and_can_be_closed_again(tmp_path: Path) -> None:
    folder = OwnedFolder(tmp_path, "x-")
    (folder.path / "file").write_text("content")
    folder.close()
    folder.close()
    assert list(tmp_path.iterdir()) == []


def test_a_living_owner_keeps_its_folder(tmp_path: Path) -> None:
    first, second = OwnedFolder(tmp_path, "x-"), OwnedFolder(tmp_path, "x-")
    assert first.path.exists() and second.path.exists()
    first.close()
    second.close()


def test_the_folder_of_a_killed_owner_goes_with_the_next(tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", DIES, str(tmp_path)], capture_output=True, text=True, check=False
    )
    left = Path(killed.stdout.strip())
    assert killed.returncode == -9 and left.exists()
    folder = OwnedFolder(tmp_path, "x-")
    assert not left.exists() and folder.path.exists()
    folder.close()


def test_folders_of_another_name_stay(tmp_path: Path) -> None:
    (tmp_path / "y-1").mkdir()
    (tmp_path / "x-without-lock").mkdir()
    OwnedFolder(tmp_path, "x-").close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-without-lock", "y-1"]
