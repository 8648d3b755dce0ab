import pytest

from engines.ipc.standing import Standing


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("engines.ipc.standing.time", clock)
    return clock


def test_each_further_restart_waits_twice_as_long_and_the_last_is_followed_by_none(clock: Clock) -> None:
    standing = Standing(max_restarts=5)
    assert [standing.lose() for _ in range(6)] == [0.0, 1.0, 2.0, 4.0, 8.0, None]
    assert (standing.state, standing.num_restarts) == ("dead", 5)


def test_restarts_of_long_ago_do_not_count(clock: Clock) -> None:
    standing = Standing(max_restarts=1)
    assert standing.lose() == 0.0
    standing.serve()
    clock.now += 601
    assert (standing.lose(), standing.state) == (0.0, "restarting")


def test_it_should_be_back_after_the_wait_and_as_long_as_its_last_start_took(clock: Clock) -> None:
    standing = Standing(max_restarts=3)
    assert (standing.state, standing.back_in_s) == ("starting", None)
    standing.begin()
    clock.now += 20
    standing.serve()
    assert (standing.state, standing.state_s, standing.back_in_s) == ("ready", 0.0, None)
    standing.lose()
    clock.now += 5
    assert (standing.state, standing.state_s, standing.back_in_s) == ("restarting", 5.0, 15.0)
    standing.lose()  # the restart failed: a second to wait, and a start
    assert (standing.state_s, standing.back_in_s) == (5.0, 21.0)


def test_a_state_lasts_through_failed_restarts(clock: Clock) -> None:
    standing = Standing(max_restarts=3)
    standing.lose()
    clock.now += 7
    standing.lose()
    assert (standing.state, standing.state_s) == ("restarting", 7.0)
    standing.phase = "weights"
    standing.serve()
    assert (standing.state, standing.phase) == ("ready", None)
