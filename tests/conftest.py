"""Settings of every test run, bare GPU machines included: torch, pytest and little else."""

import gc
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

import pytest
from own_signals import heard_by_children


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the settings of pytest-asyncio where it is not installed, rather than warn about them."""
    if find_spec("pytest_asyncio") is None:
        for name in ("asyncio_mode", "asyncio_default_fixture_loop_scope"):
            parser.addini(name, "of pytest-asyncio")


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over modules and collected tests, which stay to the end of the run."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def signals_end_what_a_test_starts() -> Generator[None, None, None]:
    """What tests start can be ended by signals, however the suite was started."""
    with heard_by_children():
        yield


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what compilers make of kernels, for all workers and runs; where none can be, for one."""
    from kept_builds import builds_folder  # here, since few tests need the engine that it imports

    try:
        return builds_folder()
    except OSError:
        return tmp_path_factory.mktemp("builds")
