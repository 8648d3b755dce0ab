"""Engines of the loop's tests."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from loop_engine import MakeEngine


@pytest.fixture(params=[False, True], ids=["in turn", "overlapped"])
def engine(request: pytest.FixtureRequest) -> Iterator["MakeEngine"]:
    """Makes engines whose steps are taken one after the other, or with the next one under way."""
    from loop_engine import LoopEngine  # here, since it needs the message library

    from engines.ipc.pixel_files import PixelFiles

    pixels = PixelFiles()
    yield lambda **changes: LoopEngine(pixels, overlap=request.param, **changes)
    pixels.close()
