"""The tokens that a whole engine gives for golden prompts: all at once, then again from the prefix cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployer.parity.case import Case
from deployer.parity.paged_network import sequence_of
from engines.errors import EngineError
from engines.messages import Delta, Done, Failed
from engines.network import Network
from engines.steps.engine_loop import EngineLoop


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineTokens:
    """What the engine said to one case, in each turn."""

    first: tuple[int, ...]
    again: tuple[int, ...]
    cached_tokens: int  # of the prompt in the second turn


def engine_tokens(loop: EngineLoop, network: Network, cases: Sequence[Case]) -> dict[str, EngineTokens]:
    """Ask for all cases together, twice. Raises EngineError where a sequence fails."""
    first, _ = _turn(loop, network, cases, turn=1)
    again, cached = _turn(loop, network, cases, turn=2)
    return {
        case.name: EngineTokens(
            first=tuple(first[case.name]), again=tuple(again[case.name]), cached_tokens=cached[case.name]
        )
        for case in cases
    }


def _turn(
    loop: EngineLoop, network: Network, cases: Sequence[Case], *, turn: int
) -> tuple[Mapping[str, list[int]], Mapping[str, int]]:
    tokens: dict[str, list[int]] = {case.name: [] for case in cases}
    cached: dict[str, int] = {}
    for number, case in enumerate(cases):
        arrival = turn * len(cases) + number
        loop.add(sequence_of(case, network, request_id=case.name, arrival=arrival))
    while loop.has_work:
        for reply in loop.step():
            if isinstance(reply, Failed):
                raise EngineError(f"case `{reply.request_id}` failed in the engine: {reply.message}")
            if isinstance(reply, Delta):
                tokens[reply.request_id] += reply.token_ids
            elif isinstance(reply, Done):
                cached[reply.request_id] = reply.usage.cached_tokens
    return tokens, cached
