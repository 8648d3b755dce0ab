"""What was measured is kept when the measuring is interrupted; the event loop is the server's."""

import asyncio

import pytest
import uvloop

from deployer.bench.measured import Measured, run_until_interrupted
from deployer.errors import EXIT_INTERRUPTED, EXIT_OK


def test_measuring_runs_on_the_event_loop_of_the_server() -> None:
    measured: Measured[object] = Measured(rows=[], about={}, ready=None)

    async def work() -> None:
        measured.rows.append(asyncio.get_running_loop())

    assert run_until_interrupted(work, measured) == EXIT_OK
    assert isinstance(measured.rows[0], uvloop.Loop)


def test_an_interruption_keeps_the_rows_and_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    measured: Measured[int] = Measured(rows=[], about={}, ready=None)

    async def work() -> None:
        measured.rows.append(1)
        raise KeyboardInterrupt

    assert run_until_interrupted(work, measured) == EXIT_INTERRUPTED
    assert measured.rows == [1]
    assert measured.about["interrupted"] == "1 row done, the others are missing"
    assert "interrupted: 1 row done" in capsys.readouterr().err
