"""What kernels keep in a GPU's memory between launches, in bytes. Torch-free: the planner counts it too.

Blocks leave sums there for another block, and ranks numbers for each other. What decode attention leaves, a
megabyte, is not counted, nor are counters.
"""

from engines.spec import DecoderSpec
from engines.turbomind.ops.hopper_shape import prefill_shape
from engines.turbomind.rank_boxes import box_bytes, slots_bytes

_MANY = 1 << 20  # items of prefill attention: cut as for large steps
_EVEN_BYTES = 256 * 256 // 2 * 4  # an SM: half a tile of `linear_even` in fp32


def even_sums_bytes(num_sms: int) -> int:
    """Return what blocks of `linear_even` leave for their neighbours."""
    return num_sms * _EVEN_BYTES


def scratch_bytes(
    spec: DecoderSpec, *, capability: tuple[int, int], num_sms: int, page_tokens: int, tp: int
) -> int:
    """Return the bytes of one rank; sums of blocks are Hopper's alone."""
    ranks = slots_bytes(tp) + box_bytes(tp) if tp > 1 else 0
    attention = prefill_shape(
        capability, dim=spec.head_dim, page_tokens=page_tokens, items=_MANY, num_sms=num_sms
    )
    if attention is None:
        return ranks
    shares = num_sms * attention.consumers * attention.share_bytes(spec.head_dim)
    return ranks + shares + even_sums_bytes(num_sms)
