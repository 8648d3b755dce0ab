"""Attention of chunks over quantized pages: short ones read codes on Hopper, else pages become numbers.

A block of the kernel that reads codes decodes every key that its 128 rows see, so the more rows a chunk has,
the more often; numbers that are written once are read by all. Writing them costs a short chunk more than its
attention: 17,408 tokens of InternVL2-8B are 37 MB of codes and 71 of numbers, a layer.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from engines.memory.kv_bytes import PLAIN_TOKENS, pages_for
from engines.memory.kv_layer import KvLayer
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.attention_prefill import attention_prefill, reads_codes
from engines.turbomind.ops.dequantize_pages import dequantize_pages

# Rows of the longest chunk, (token, query head of a KV head) pairs, up to which codes are read. Measured:
# kernels/LOG.md, 2026-11-26.
MOST_ROWS = 256


def attention_prefill_codes(
    gpu: Gpu,
    q_TND: Tensor,
    layer: KvLayer,
    pages_BP: Tensor,
    q_starts_B1: Tensor,
    kv_lens_B: Tensor,
    *,
    longest: int,
    lens: Sequence[int],
    scale: float,
    window: int | None,
    out_TND: Tensor,
) -> Tensor:
    """Write what `attention_prefill` would over the same pages of numbers into `out_TND` and return it.

    `longest` are the tokens of the longest chunk and `lens` are `kv_lens_B`, known to the host; bounds where
    a step is recorded. At most PLAIN_TOKENS tokens stand as numbers at once, or one sequence that is longer.
    """
    dim = q_TND.shape[2]
    num_rows = longest * q_TND.shape[1] // layer.keys_PKTD.shape[1]
    if num_rows <= MOST_ROWS and reads_codes(gpu, layer, dim=dim):
        where = (pages_BP, q_starts_B1, kv_lens_B)
        return attention_prefill(gpu, q_TND, layer, *where, scale=scale, window=window, out_TND=out_TND)
    counts = [pages_for(length, page_tokens=layer.page_tokens) for length in lens]
    for part in groups(counts, most=PLAIN_TOKENS // layer.page_tokens):
        most = max(counts[part])
        plain, places_BP = dequantize_pages(
            gpu,
            layer,
            pages_BP[part, :most],
            kv_lens_B[part],
            room=sum(counts[part]),
            dim=dim,
            dtype=q_TND.dtype,
        )
        attention_prefill(
            gpu,
            q_TND,
            plain,
            places_BP,
            q_starts_B1[part.start : part.stop + 1],
            kv_lens_B[part],
            scale=scale,
            window=window,
            out_TND=out_TND,
        )
    return out_TND


def groups(counts: Sequence[int], *, most: int) -> Iterator[slice]:
    """Yield neighbours that hold `most` pages together at most; a sequence with more is alone.

    Groups are about equal: a small last one would leave most of the GPU idle.
    """
    total = sum(counts)
    enough = -(-total // max(-(-total // most), 1))
    start = held = 0
    for i, count in enumerate(counts):
        if i > start and (held >= enough or held + count > most):
            yield slice(start, i)
            start, held = i, 0
        held += count
    if counts:
        yield slice(start, len(counts))
