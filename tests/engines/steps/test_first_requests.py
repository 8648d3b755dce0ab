import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_engine import SPEC, Faulty, load_tiny, options

from engines.errors import DeviceError
from engines.loading import load_engine
from engines.messages import Start, Submit, greedy
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


WIDE = replace(
    SPEC,
    vision=None,
    dtype="bfloat16",
    decoder=replace(
        SPEC.decoder,
        num_layers=4,
        hidden=4096,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        ffn=14336,
        vocab=4096,
        max_positions=4096,
    ),
)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_prompts_of_new_lengths_take_the_host_as_long_as_others() -> None:
    how = options(
        kind="turbomind", dtype="bfloat16", device="cuda", load_format="random", page_tokens=64,
        num_pages=128, max_batch_size=8, max_prefill_token_num=2048, session_len=2048,
    )  # fmt: skip
    loop = load_engine(Start(folder="nowhere", spec=WIDE, options=how), on_phase=lambda phase: None)[0]
    times = [(host_ms(loop, length), host_ms(loop, length)) for length in (701, 1409, 905, 1200)]
    later = [first - again for first, again in times]
    # Loading a library's kernels took 3 to 10 ms a length, choosing among them takes 0.7.
    assert sum(later) < 12, times


def host_ms(loop: EngineLoop, num_tokens: int) -> float:
    """Return how long the host takes to launch the step of a prompt."""
    request = Submit(request_id="one", token_ids=(1,) * num_tokens, images=(), sampling=greedy(1), priority=0)
    torch.cuda.synchronize()
    loop.take(request)
    started = time.perf_counter()
    loop.step()
    seconds = time.perf_counter() - started
    while loop.has_work:
        loop.step()
    return 1000 * seconds
