import ast
from pathlib import Path

import pytest

from engines.ipc.restart_pace import RestartPace

REPOSITORY = Path(__file__).parents[3]


def test_the_first_restart_is_at_once_and_each_further_one_waits_twice_as_long_up_to_a_minute() -> None:
    pace = RestartPace()
    assert [pace.next_wait_s(0.0) for _ in range(9)] == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_restarts_that_left_the_window_count_no_more() -> None:
    pace = RestartPace()
    assert [pace.next_wait_s(now) for now in (0.0, 300.0, 600.0)] == [0.0, 1.0, 2.0]
    assert [pace.next_wait_s(now) for now in (600.5, 1500.0)] == [2.0, 0.0]


def test_a_restart_beyond_the_limit_is_refused_and_does_not_count_itself() -> None:
    pace = RestartPace(max_restarts=2)
    assert [pace.next_wait_s(now) for now in (0.0, 10.0, 590.0)] == [0.0, 1.0, None]
    assert pace.next_wait_s(605.0) == 1.0, "the refused one at 590 would have been in the way"
    assert RestartPace(max_restarts=0).next_wait_s(0.0) is None


@pytest.mark.parametrize("path", ["engines/ipc/standing.py", "deployer/serve/fronts/crew.py"])
def test_the_engine_and_the_fronts_are_restarted_by_this_one_rule(path: str) -> None:
    nodes = list(ast.walk(ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))))
    calls = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
    assert "RestartPace" in calls and "deque" not in calls
