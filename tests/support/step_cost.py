"""Prints what a decode step costs the host: `PYTHONPATH=tests/support python tests/support/step_cost.py`.

The whole loop from the scheduler to the packed replies, around a network that computes nothing, on the CPU.
With a GPU the same work runs beside the device; what remains of it between two steps is a gap.
"""

import cProfile
import pstats
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from sequences import sampling
from tiny_engine import SPEC, VOCAB, options

from engines.ipc.process import _leave_alone_what_stays
from engines.ipc.wire import encode_from_engine
from engines.memory.kv_cache import allocate_kv
from engines.messages import Submit
from engines.ops import KvLayer
from engines.schedule.scheduler import Scheduler
from engines.steps.engine_loop import EngineLoop
from engines.steps.runner import Runner
from engines.steps.step import StepInput

PROMPT, PAGE_TOKENS, STEPS = 1024, 64, 100
SHOWN = 25


class NoNetwork:
    """Implements `engines.network.Network` with logits of zero."""

    spec = SPEC

    def hidden(self, step: StepInput, kv: Sequence[KvLayer]) -> torch.Tensor:
        return torch.zeros(len(step.sample_rows_S), 1)

    def logits(self, hidden_SH: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(hidden_SH), VOCAB)

    def encode_images(self, images: Any, *, max_tiles: int) -> list[torch.Tensor]:
        raise AssertionError("texts only")


def decoding(batch: int, **how: Any) -> EngineLoop:
    """Return a loop whose sequences have read their prompts."""
    pages = batch * (-(-(PROMPT + 4 * STEPS) // PAGE_TOKENS) + 1)
    limits = options(max_batch_size=batch, max_prefill_token_num=8192).scheduler
    kv = allocate_kv(
        SPEC.decoder,
        options(page_tokens=PAGE_TOKENS).kv,
        num_pages=1,
        tp=1,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    network: Any = NoNetwork()
    runner = Runner(network, kv, device=torch.device("cpu"), max_batch_size=batch, vision=options().vision)
    scheduler = Scheduler(limits, num_pages=pages, page_tokens=PAGE_TOKENS, prefix_caching=False)
    loop = EngineLoop(scheduler, runner, SPEC, num_pages=pages, session_len=PROMPT + 4 * STEPS, overlap=True)
    for number in range(batch):
        request = Submit(
            request_id=f"cost-{number}",
            token_ids=(number % VOCAB,) * PROMPT,
            images=(),
            sampling=sampling(max_new_tokens=4 * STEPS, ignore_eos=True, seed=number, **how),
            priority=0,
        )
        assert loop.submit(request) == []
    while loop.stats().num_waiting or not all(one.is_decoding for one in loop._scheduler.running):
        loop.step()
    return loop


def step(loop: EngineLoop) -> None:
    """Run one step and pack what it gives, as the process does."""
    encode_from_engine([*loop.step(), loop.stats()])


def main(batches: Sequence[int]) -> None:
    """Time plain and sampled decode steps, then profile the largest."""
    torch.set_num_threads(1)
    _leave_alone_what_stays()
    print(f"{'batch':>5}  {'greedy, us a step':>18}  {'sampled, us a step':>18}")
    for batch in batches:
        times = [_us(decoding(batch, **how)) for how in ({}, {"temperature": 0.8, "top_k": 40, "top_p": 0.9})]
        print(f"{batch:>5}  {times[0]:>18.0f}  {times[1]:>18.0f}")
    loop = decoding(max(batches))
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(STEPS):
        step(loop)
    profile.disable()
    print(f"\nus a step at {max(batches)}, by function, under the profiler, which slows everything down")
    found: Any = pstats.Stats(profile)
    for (file, line, name), (_, calls, own, total, _) in sorted(
        found.stats.items(), key=lambda item: -item[1][2]
    )[:SHOWN]:
        where = f"{calls // STEPS:>6} calls  {file.rpartition('/')[2]}:{line} {name}"
        print(f"{own / STEPS * 1e6:>8.0f} own {total / STEPS * 1e6:>8.0f} all {where}")


def _us(loop: EngineLoop) -> float:
    for _ in range(10):
        step(loop)
    times = []
    for _ in range(STEPS):
        started = time.process_time()  # not what others do on the same cores
        step(loop)
        times.append(time.process_time() - started)
    return sorted(times)[len(times) // 2] * 1e6


if __name__ == "__main__":
    with torch.inference_mode():
        main([int(word) for word in sys.argv[1:]] or [1, 64, 256])
