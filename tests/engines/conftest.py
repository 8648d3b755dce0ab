"""Fixtures of the runtime's tests, which also run on a bare GPU machine: torch, pytest and little else."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from internvl_golden import write_checkpoint

if TYPE_CHECKING:
    from engines.ipc.pixel_files import PixelFiles

# Without the message library, networks and ops are tested all the same: the tests beside this file are those
# of the engine process.
if find_spec("msgspec") is None:
    collect_ignore = sorted(path.name for path in Path(__file__).parent.glob("test_*.py"))


@pytest.fixture(scope="session")
def internvl_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the checkpoint folder of a golden case, written once."""
    root = tmp_path_factory.mktemp("internvl")
    return lambda case: root / case if (root / case).exists() else write_checkpoint(case, root / case)


@pytest.fixture
def pixels() -> Iterator["PixelFiles"]:
    """Files of pixels as a client of an engine has them."""
    from engines.ipc.pixel_files import PixelFiles  # here, since it needs the message library

    files = PixelFiles()
    yield files
    files.close()
