from typing import Any

import pytest
from tiny_engine import SPEC, Faulty, load_tiny, options

from engines.errors import DeviceError
from engines.loading import load_engine
from engines.messages import Start
from engines.steps.engine_loop import EngineLoop
from engines.steps.first_requests import run_first_requests


def make_loop(load: Any = load_tiny) -> EngineLoop:
    start = Start(folder="nowhere", spec=SPEC, options=options())
    return load_engine(start, on_phase=lambda phase: None, load=load)[0]


@pytest.mark.parametrize("longest", [1, 16, 40])
def test_requests_of_both_lengths_run_to_their_ends_and_leave_nothing(longest: int) -> None:
    loop = make_loop()
    run_first_requests(loop, longest_prompt=longest)
    stats = loop.stats()
    assert stats.prompt_tokens == 2 * min(16, longest) + longest
    assert stats.output_tokens == 3 * 3
    assert (stats.num_running, stats.num_waiting, stats.pages_used) == (0, 0, 0)


def test_one_that_fails_is_an_error_that_says_of_which_length() -> None:
    made: list[Broken] = []

    def load(*how: Any) -> Broken:
        made.append(Broken(load_tiny(*how)))
        return made[0]

    loop = make_loop(load)
    made[0].is_broken = True
    with pytest.raises(DeviceError, match=r"a request of 8 tokens that .* failed: a step failed"):
        run_first_requests(loop, longest_prompt=8)


class Broken(Faulty):
    """A network that comes to raise."""

    is_broken = False

    def hidden(self, step: Any, kv: Any) -> Any:
        if self.is_broken:
            raise RuntimeError("no kernel image is available")
        return super().hidden(step, kv)
