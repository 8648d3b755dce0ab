"""Who asked for the end of a sequence is known until the sequence has ended."""

from typing import Any

from deployer.generation.running_sequences import RunningSequences


class Aborts:
    """An engine of which only the orders to end sequences are seen."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def abort(self, request_id: str) -> None:
        self.asked.append(request_id)


def test_the_engine_is_asked_for_the_end_of_those_named_and_of_no_others() -> None:
    running, engine = RunningSequences(), Aborts()
    running.add(["a-0", "a-1", "b-0"])
    running.end(_as_engine(engine), ["a-0", "a-1"], by="operator")
    assert engine.asked == ["a-0", "a-1"]
    assert [running.ended_by(name) for name in ("a-0", "a-1", "b-0")] == ["operator", "operator", None]


def test_all_that_run_can_be_ended_while_they_are_listed() -> None:
    running, engine = RunningSequences(), Aborts()
    running.add(["a", "b"])
    running.end(_as_engine(engine), running, by="shutdown")
    assert engine.asked == ["a", "b"] and {running.ended_by(name) for name in running} == {"shutdown"}


def test_a_name_that_runs_again_was_ended_by_nobody() -> None:
    running = RunningSequences()
    running.add(["a"])
    running.end(_as_engine(Aborts()), ["a"], by="operator")
    running.remove(["a", "never there"])
    assert len(running) == 0 and running.ended_by("a") is None
    running.add(["a"])
    assert list(running) == ["a"] and running.ended_by("a") is None


def _as_engine(engine: Aborts) -> Any:
    return engine
