"""A point in a process of its own: its benchmark, and the questions where accuracy is asked for."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from deployer.config.words import group_of
from deployer.sweeps.feasible import Verdict
from deployer.sweeps.figures import accuracy_of_report, figures_of_report
from deployer.sweeps.options import SweepOptions
from deployer.sweeps.point import Point, Result

STOP_S = 20.0  # an engine that was told to end has this long
_NOT_OF_QUESTIONS = ("bench", "hardware")


class PointFailed(Exception):
    """A process of a point ended without a report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """How the points of a sweep are run."""

    fixed: tuple[str, ...]
    config_dirs: tuple[str, ...]
    options: SweepOptions

    async def measure(self, point: Point, verdict: Verdict, devices: Sequence[int], log: Path) -> Result:
        """Run a point on these GPUs and return what it came to; cancelling ends its processes."""
        started = time.perf_counter()
        words = [*self.fixed, *point.words]
        report: dict[str, Any] | None = None
        figures: dict[str, float] = {}
        reason = None
        with log.open("wb") as messages:
            try:
                async with asyncio.timeout(self.options.timeout_s):
                    report = await self._printed(["bench", *words, "bench.output=json"], devices, messages)
                    figures = figures_of_report(report)
                    if self.options.questions is not None:
                        asked = await self._printed(self._questions(words), devices, messages)
                        figures["accuracy"] = accuracy_of_report(asked)
            except TimeoutError:
                reason = f"took more than sweep.timeout_s={self.options.timeout_s:g} seconds"
            except PointFailed as error:
                reason = str(error)
        return Result(
            number=point.number,
            words=point.words,
            status="done" if reason is None else "failed",
            reason=reason,
            hardware=verdict.hardware,
            figures=figures if reason is None else {},
            same_as=None,
            seconds=round(time.perf_counter() - started, 2),
            date=datetime.now(UTC).date().isoformat(),
            about=dict(report["about"]) if report else {},
            report=report,
        )

    def _questions(self, words: Sequence[str]) -> list[str]:
        kept = [word for word in words if group_of(word) not in _NOT_OF_QUESTIONS]
        return ["evaluate", *kept, f"evaluate.questions={self.options.questions}", "evaluate.output=json"]

    async def _printed(
        self, words: Sequence[str], devices: Sequence[int], messages: BinaryIO
    ) -> dict[str, Any]:
        """Return the JSON that a command prints. Raises PointFailed where it ends otherwise."""
        folders = [part for folder in self.config_dirs for part in ("--config-dir", folder)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "deployer.sweeps.child",
            *words,
            *folders,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=messages,
            env=_environment(devices),
            start_new_session=True,
        )
        try:
            out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                await _end(process)
        if process.returncode != 0:
            raise PointFailed(_last_words(Path(messages.name), process.returncode))
        report: dict[str, Any] = json.loads(out)
        return report


def _environment(devices: Sequence[int]) -> dict[str, str]:
    own = {"DEPLOY_SWEEP_PID": str(os.getpid())}
    if devices:
        own["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, devices))
    return {**os.environ, **own}


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a point's whole process group: gently, and for good where it does not listen."""
    try:
        os.killpg(process.pid, signal.SIGINT)
        await asyncio.wait_for(process.communicate(), STOP_S)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    except ProcessLookupError:
        await process.wait()


def _last_words(log: Path, code: int | None) -> str:
    """Return why a command failed: its error lines, or the last that it said."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    what = "\n".join(errors[-3:]) if errors else (lines[-1] if lines else "it said nothing")
    return f"{what} (exit code {code}; all of it: {log})"
