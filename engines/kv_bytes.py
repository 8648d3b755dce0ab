"""How many bytes keys and values take, and how many pages a memory holds. Ints only, torch-free.

The one formula of both sides: the planner predicts with it, the runtime allocates by it.
"""

from engines.options import KvFormat
from engines.spec import DecoderSpec

# Of what a machine has free: it is shared with the front end, the page cache and everybody else.
SHARE_OF_HOST_MEMORY = 0.5

_SCALE_BYTES = 4  # int8, int4: a 2-byte scale and a 2-byte zero point for each token and head, in K and in V
_BITS = {"fp8": 8, "int8": 8, "int4": 4}


def kv_heads_per_rank(spec: DecoderSpec, *, tp: int) -> int:
    """Return the KV heads that one rank stores; ranks that outnumber the heads store one each."""
    return max(spec.num_kv_heads // tp, 1)


def kv_token_bytes(spec: DecoderSpec, *, format: KvFormat, dtype_bytes: int, tp: int) -> int:
    """Return the bytes of one token's keys and values on one rank, over all layers.

    2 (K and V) * layers * heads on the rank * (head_dim * bits / 8 + scale bytes). `dtype_bytes` is that of
    the compute dtype, in which format `none` stores. fp8 has one scale a layer, which is not counted.
    """
    bits = _BITS.get(format, 8 * dtype_bytes)
    scales = _SCALE_BYTES if format in ("int8", "int4") else 0
    return 2 * spec.num_layers * kv_heads_per_rank(spec, tp=tp) * (spec.head_dim * bits // 8 + scales)


def page_bytes(spec: DecoderSpec, *, format: KvFormat, dtype_bytes: int, page_tokens: int, tp: int) -> int:
    """Return the bytes of one page on one rank, over all layers."""
    return page_tokens * kv_token_bytes(spec, format=format, dtype_bytes=dtype_bytes, tp=tp)


def pages_for(num_tokens: int, *, page_tokens: int) -> int:
    """Return the pages that a sequence of this many tokens takes."""
    return -(-num_tokens // page_tokens)


def pages_that_fit(free_bytes: int, *, memory: float, page_bytes: int) -> int:
    """Return the pages of `engine.cache_max_entry_count`: a share of what is free (below 1), or bytes.

    Never more than what is free, and 0 where nothing is.
    """
    wanted = free_bytes * memory if memory < 1 else min(memory, free_bytes)
    return max(int(wanted) // page_bytes, 0)
