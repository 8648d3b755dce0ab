"""How many bytes keys and values take, and how many pages a memory holds. Ints only, torch-free.

The one formula of both sides: the planner predicts with it, the runtime allocates by it.
"""

import math
from collections.abc import Sequence
from typing import get_args

from engines.options import EngineKind, KvFormat
from engines.spec import DecoderSpec

# Of what a machine has free: it is shared with the front end, the page cache and everybody else.
SHARE_OF_HOST_MEMORY = 0.5

ROW_MULTIPLE = 16  # bytes: kernels load a row of codes in pieces of 16
DECODE_MULTIPLE = 32  # bytes of a row of 8 or 4 bits a number that decode attention of engine=turbomind takes

# Tokens whose quantized keys and values stand as numbers at once while chunks attend to them, of one layer.
PLAIN_TOKENS = 16_384

# Layouts: `engines/memory/kv_layer.py`. A row's parameters: a scale, and with int8 and int4 a zero.
_BITS = {"bf12": 12, "fp8": 8, "int8": 8, "int4": 4}
_NUM_SCALES = {"bf12": 1, "fp8": 1, "int8": 2, "int4": 2}


def num_scales(format: KvFormat) -> int:
    """Return how many parameters one row of keys or values has, 16 bits each."""
    return _NUM_SCALES.get(format, 0)


def row_bytes(head_dim: int, format: KvFormat, *, dtype_bytes: int) -> int:
    """Return the bytes of one row of keys or values without its parameters."""
    return head_dim * _BITS.get(format, 8 * dtype_bytes) // 8


def head_dim_rule(head_dim: int, format: KvFormat, *, kind: EngineKind = "auto") -> str | None:
    """Return what a format asks of the head dim, where this one does not fulfil it.

    engine=turbomind asks more than every engine does.
    """
    multiple = _head_multiple(format, ROW_MULTIPLE)
    if head_dim % multiple:
        return f"needs heads of a multiple of {multiple} numbers, this model's have {head_dim}"
    multiple = _head_multiple(format, DECODE_MULTIPLE)
    if kind == "turbomind" and format != "bf12" and head_dim % multiple:
        return (
            f"needs heads of a multiple of {multiple} numbers with engine=turbomind, this model's have "
            f"{head_dim}"
        )
    return None


def _head_multiple(format: KvFormat, row_multiple: int) -> int:
    """Return what the head dim is a multiple of where a row's bytes are one of `row_multiple`."""
    row_bits = 8 * row_multiple
    return row_bits // math.gcd(row_bits, _BITS[format]) if format in _BITS else 1


def dtype_rule(dtype: str, format: KvFormat) -> str | None:
    """Return what a format asks of the compute dtype, where this one does not fulfil it.

    float32, in which a CPU computes, is rounded on the way.
    """
    if format != "bf12" or dtype != "float16":
        return None
    return "keeps numbers of bfloat16, float16 has three more bits of mantissa"


def kv_formats(head_dim: int, dtype: str, *, kind: EngineKind = "auto") -> Sequence[KvFormat]:
    """Return the formats that heads of so many numbers, computed in this dtype, can be kept in."""
    forms: tuple[KvFormat, ...] = get_args(KvFormat)
    return [
        form for form in forms if not head_dim_rule(head_dim, form, kind=kind) and not dtype_rule(dtype, form)
    ]


def kv_heads_per_rank(spec: DecoderSpec, *, tp: int) -> int:
    """Return the KV heads that one rank stores; ranks that outnumber the heads store one each."""
    return max(spec.num_kv_heads // tp, 1)


def kv_token_bytes(spec: DecoderSpec, *, format: KvFormat, dtype_bytes: int, tp: int) -> int:
    """Return the bytes of one token's keys and values on one rank, over all layers.

    2 (K and V) * layers * heads on the rank * (head_dim * bits / 8 + 2 bytes a parameter). `dtype_bytes` is
    that of the compute dtype, in which format `none` stores.
    """
    row = row_bytes(spec.head_dim, format, dtype_bytes=dtype_bytes) + 2 * num_scales(format)
    return 2 * spec.num_layers * kv_heads_per_rank(spec, tp=tp) * row


def page_bytes(spec: DecoderSpec, *, format: KvFormat, dtype_bytes: int, page_tokens: int, tp: int) -> int:
    """Return the bytes of one page on one rank, over all layers."""
    return page_tokens * kv_token_bytes(spec, format=format, dtype_bytes=dtype_bytes, tp=tp)


def plain_bytes(spec: DecoderSpec, *, format: KvFormat, dtype_bytes: int, longest: int, tp: int) -> int:
    """Return the bytes in which chunks meet quantized keys and values as numbers; 0 with format `none`.

    `longest` is the most tokens of a sequence: one that exceeds PLAIN_TOKENS is alone.
    """
    if format == "none":
        return 0
    return 2 * max(PLAIN_TOKENS, longest) * kv_heads_per_rank(spec, tp=tp) * spec.head_dim * dtype_bytes


def pages_for(num_tokens: int, *, page_tokens: int) -> int:
    """Return the pages that a sequence of this many tokens takes."""
    return -(-num_tokens // page_tokens)


def pages_that_fit(free_bytes: int, *, memory: float, page_bytes: int) -> int:
    """Return the pages of `engine.cache_max_entry_count`: a share of what is free (below 1), or bytes.

    Never more than what is free, and 0 where nothing is.
    """
    wanted = free_bytes * memory if memory < 1 else min(memory, free_bytes)
    return max(int(wanted) // page_bytes, 0)
