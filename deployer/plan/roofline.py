"""Time from bytes and operations: a step can be no faster than its slowest resource.

    linear layers   max(weight bytes / bandwidth, operations / rate)
    attention       decode: KV bytes / bandwidth; prefill: operations / rate
    group           bytes that a rank sends / link
    other           norms, rotation, activations, choice of tokens: only in what is expected, not in the limit

They follow each other, so their times add up. The units are ints, floats, bytes and seconds; nothing
here knows a model.
"""

from dataclasses import dataclass
from typing import Literal

Bound = Literal["weights", "compute", "kv", "link"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Time:
    """How long something takes at least, and what takes the most of it."""

    linear_s: float
    attention_s: float
    link_s: float
    other_s: float
    bound: Bound

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.linear_s + self.attention_s + self.link_s + self.other_s


def linear_time(*, num_bytes: float, bytes_per_s: float, compute_s: float) -> tuple[float, Bound]:
    """Return seconds and bound of matrix products that stream their weights once while they compute."""
    stream_s = num_bytes / bytes_per_s
    return (stream_s, "weights") if stream_s >= compute_s else (compute_s, "compute")


def all_reduce_bytes(num_bytes: float, *, ranks: int) -> float:
    """Return what each rank sends (and receives) to sum a tensor over all of them.

    A ring passes each of `ranks` slices on ranks - 1 times to add them up, and as often again to hand the
    sums round: 2 * (ranks - 1) / ranks of the tensor.
    """
    return 2 * (ranks - 1) / ranks * num_bytes


def joined(
    *,
    linear_s: float,
    linear_bound: Bound,
    attention_s: float,
    attention_bound: Bound,
    link_s: float,
    other_s: float,
) -> Time:
    """Return the sum of all, bound by the longest of those that have a roof."""
    longest = max(linear_s, attention_s, link_s)
    bound: Bound = (
        linear_bound if longest == linear_s else attention_bound if longest == attention_s else "link"
    )
    return Time(linear_s=linear_s, attention_s=attention_s, link_s=link_s, other_s=other_s, bound=bound)
