"""Settled points and run folders as a sweep leaves them, without measuring anything."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from deployer.config.load import load_option
from deployer.sweeps.options import SweepOptions
from deployer.sweeps.point import Result
from deployer.sweeps.run_folder import RunFolder, create_run
from deployer.verbs import VERBS

FIGURES = {
    "tokens_per_s": 100.0,
    "requests_per_s": 5.0,
    "ttft_p50_ms": 10.0,
    "ttft_p99_ms": 20.0,
    "token_p50_ms": 1.0,
    "token_p99_ms": 2.0,
    "memory_bytes": 2.0**30,
    "kv_tokens": 1024.0,
    "concurrency": 8.0,
}
ABOUT = {"processor": "P9, 2 cores", "deployer": "0.1.0, commit abc123"}


def options(option: str = "default", /, **changes: Any) -> SweepOptions:
    """Return an option of the group `sweep`, changed."""
    found: SweepOptions = load_option(VERBS["sweep"].groups[0], option)
    return replace(found, **changes)


def done(number: int, *words: str, **figures: float) -> Result:
    """Return a measured point."""
    return Result(
        number=number,
        words=words,
        status="done",
        reason=None,
        hardware="cpu",
        figures={**FIGURES, **figures},
        same_as=None,
        seconds=3.0,
        date="2026-11-26",
        about=ABOUT,
        report={"about": ABOUT, "engine": {"device": "cpu (1 threads)"}},
    )


def left(number: int, *words: str, status: Any = "pruned", reason: str = "does not fit") -> Result:
    """Return a point that was not measured."""
    return replace(
        done(number, *words), status=status, reason=reason, figures={}, seconds=0.0, about={}, report=None
    )


def written_run(path: Path, words: list[str], results: list[Result], **changes: Any) -> RunFolder:
    """Write a run with these settled points."""
    run = create_run(path, words, [], options(**changes))
    for result in results:
        run.write(result)
    return run
