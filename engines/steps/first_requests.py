"""Requests that run through the engine before any client's, so that none of those is the first of its kind.

The first step of an engine is slow on the host: torch loads each of its small kernels when it is first
launched, and memory for copies is pinned (15 ms of a prompt's 31 on an H200, kernels/LOG.md). A loop of its
own runs them, over the network and the pages that serve later; its books go with it.
"""

from msgspec.structs import replace

from engines.errors import DeviceError
from engines.messages import Failed, Sampling, Submit, greedy
from engines.steps.engine_loop import EngineLoop

SHORT_PROMPT = 16  # tokens: a step that is replayed where steps of prompts are recorded
NEW_TOKENS = 3  # one of the prompt's step, one of a step behind it, one of a step behind a decode


def run_first_requests(loop: EngineLoop, *, longest_prompt: int) -> None:
    """Run short prompts, greedy and drawn, then one of `longest_prompt` tokens, each to its end.

    Raises DeviceError where one of them fails.
    """
    plain = greedy(NEW_TOKENS)
    # Penalties would leave rows in tables that later sequences find by the number of their arrival.
    drawn = replace(plain, temperature=1.0, top_p=0.9, logprobs=1)
    short = min(SHORT_PROMPT, longest_prompt)
    for length, sampling in ((short, plain), (short, drawn), (longest_prompt, plain)):
        _run(loop, length, sampling)


def _run(loop: EngineLoop, length: int, sampling: Sampling) -> None:
    request = Submit(
        request_id="first request", token_ids=(0,) * length, images=(), sampling=sampling, priority=0
    )
    replies = loop.take(request)
    while loop.has_work:
        replies += loop.step()
    for reply in replies:
        if isinstance(reply, Failed):
            raise DeviceError(
                f"a request of {length} tokens that the engine runs before any other failed: {reply.message}"
            )
