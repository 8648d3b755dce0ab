"""Settings of every test run, bare GPU machines included: torch, pytest and little else."""

from importlib.util import find_spec

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the settings of pytest-asyncio where it is not installed, rather than warn about them."""
    if find_spec("pytest_asyncio") is None:
        for name in ("asyncio_mode", "asyncio_default_fixture_loop_scope"):
            parser.addini(name, "of pytest-asyncio")
