from dataclasses import dataclass

import pytest

from deployer.serve.comeback import retry_after_s
from engines.engine import EngineState


@dataclass
class Away:
    state: EngineState
    state_s: float
    back_in_s: float | None = None


@pytest.mark.parametrize(
    ("away", "seconds"),
    [
        (Away("starting", 0.2), 1),
        (Away("starting", 9.5), 10),  # as long again
        (Away("starting", 500.0), 60),
        (Away("restarting", 1.0, back_in_s=12.3), 13),  # what the last start took
        (Away("restarting", 30.0, back_in_s=0.0), 30),  # overdue
        (Away("dead", 3.0), 60),
        (Away("dead", 700.0), 700),
        (Away("dead", 1e6), 3600),
    ],
)
def test_the_wait_is_what_is_known_of_the_engine(away: Away, seconds: int) -> None:
    assert retry_after_s(away) == seconds
