"""A smoke answer against the locked one."""

from dataclasses import replace

from deployer.recipes.lock_file import Smoke
from deployer.recipes.smoke_check import smoke_findings

LOCKED = Smoke(
    question="q", picture=True, answer="red", engine="pytorch", device="cpu", dtype="auto",
    machine="EPYC, 2 cores, load 0.1", figures={"first_token_ms": 10.0, "token_ms": 2.0},
)  # fmt: skip


def levels(now: Smoke, *, tolerance: float = 0.5) -> list[str]:
    return [finding.level for finding in smoke_findings(LOCKED, now, tolerance=tolerance)]


def test_the_same_holds_whatever_the_load() -> None:
    assert levels(replace(LOCKED, machine="EPYC, 2 cores, load 9.9")) == ["ok", "ok", "ok"]


def test_slower_than_the_tolerance_is_an_error_and_faster_is_not() -> None:
    now = replace(LOCKED, figures={"first_token_ms": 15.1, "token_ms": 0.1})
    assert levels(now) == ["ok", "error", "ok"]
    assert levels(now, tolerance=0.6) == ["ok", "ok", "ok"]


def test_another_answer_is_an_error_on_the_same_engine_and_a_warning_on_another() -> None:
    assert levels(replace(LOCKED, answer="blue"))[0] == "error"
    assert levels(replace(LOCKED, answer="blue", engine="turbomind", device="cuda"))[0] == "warning"


def test_times_of_another_processor_are_not_compared() -> None:
    assert levels(replace(LOCKED, machine="Xeon, 8 cores, load 0.1", figures={"token_ms": 99.0})) == [
        "ok",
        "warning",
    ]


def test_another_question_is_no_comparison() -> None:
    assert levels(replace(LOCKED, question="other", answer="x"))[0] == "warning"
