"""Checks and times cuts of decode attention: `python -m engines.turbomind.bench.decode_cuts [FORMAT ...]`.

FORMAT is one of `none`, `bf12`, `int8`, `fp8`, `int4`; without one, all. Every cut is compared with the plain
formula in fp32 over the numbers that the pages stand for. µs, and below them the share of the copy ceiling
that the fastest cut reaches.
"""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from engines.ops import KvLayer
from engines.options import KvFormat
from engines.pytorch.kv_rows import dequantize_rows
from engines.turbomind.bench.attention import DECODES, FORMATS, PAGE_TOKENS
from engines.turbomind.bench.attention_cases import (
    DIM,
    HEADS,
    KV_HEADS,
    cache,
    cache_bytes,
    paged_batch,
    queries,
)
from engines.turbomind.bench.attention_checks import dense, plain
from engines.turbomind.bench.attention_runs import compile_to_cache
from engines.turbomind.bench.timing import copy_ceiling_gbps, num_sets, time_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.attention_decode import attention_decode, decode_constants
from engines.turbomind.ops.decode_shape import DecodeShape, shared_bytes

# Warps, stages, blocks an SM.
CUTS = (
    *((2, 2, 8), (2, 3, 6), (2, 4, 4), (1, 2, 14), (4, 2, 2), (4, 4, 2), (4, 2, 4)),
    *((8, 3, 1), (8, 2, 2), (16, 2, 1)),
)
_TOLERANCE = 1e-2  # as in attention_checks.py
_GROUP = HEADS // KV_HEADS


def cuts_of(gpu: Gpu, format: KvFormat) -> Iterator[DecodeShape]:
    """Yield the cuts that fit."""
    for warps, stages, blocks in CUTS:
        needed = shared_bytes(warps=warps, stages=stages, dim=DIM, group=_GROUP, format=format)
        if needed <= gpu.shared_bytes_per_block and blocks * (needed + 1024) <= gpu.shared_bytes_per_sm:
            yield DecodeShape(warps=warps, stages=stages, blocks_per_sm=blocks, shared_bytes=needed)


def main(formats: Sequence[KvFormat]) -> None:
    """Measure every cut at every case."""
    gpu = Gpu(torch.device("cuda"))
    jobs = [(shape, format) for format in formats for shape in cuts_of(gpu, format)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda job: _compile(*job), jobs))
    ceiling = copy_ceiling_gbps()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: {ceiling:.0f} GB/s copy")
    print(f"{'us':<14}" + "".join(f"{f'{num_seqs} x {length}':>11}" for num_seqs, length in DECODES))
    for format in formats:
        shapes = list(cuts_of(gpu, format))
        wrong = {shape: _error(gpu, format, shape) for shape in shapes}
        columns = [_column(gpu, format, case, shapes) for case in DECODES]
        for shape, *times in zip(shapes, *columns, strict=True):
            name = f"{format} {shape.warps}/{shape.stages}/{shape.blocks_per_sm}"
            fault = "" if wrong[shape] < _TOLERANCE else f"  WRONG by {wrong[shape]:.2e}"
            print(f"{name:<14}" + "".join(f"{us:>11.2f}" for us in times) + fault, flush=True)
        floors = [cache_bytes(num_seqs * length, format) / ceiling / 1e3 for num_seqs, length in DECODES]
        shares = (floor / min(times) for floor, times in zip(floors, columns, strict=True))
        print(f"{'of limit':<14}" + "".join(f"{f'{100 * share:.0f} %':>11}" for share in shares), flush=True)


def _compile(shape: DecodeShape, format: KvFormat) -> None:
    constants = decode_constants(
        shape,
        scalar="bf16",
        dim=DIM,
        num_pairs=0,
        num_kv_heads=KV_HEADS,
        group=_GROUP,
        page_tokens=PAGE_TOKENS,
        window=None,
        format=format,
    )
    compile_to_cache("attention_decode.cu", constants)


def _column(gpu: Gpu, format: KvFormat, case: tuple[int, int], shapes: Sequence[DecodeShape]) -> list[float]:
    """Return what each cut takes over the same pages."""
    num_seqs, length = case
    batch = paged_batch(num_seqs=num_seqs, new=1, prefix=length - 1, page_tokens=PAGE_TOKENS)
    q, where = queries(batch), (batch.pages_BP, batch.kv_lens_B)
    layers = [
        cache(batch, page_tokens=PAGE_TOKENS, format=format)
        for _ in range(num_sets(cache_bytes(num_seqs * length, format)))
    ]
    attend = partial(attention_decode, gpu, q, scale=DIM**-0.5, window=None)
    return [
        time_us(
            [partial(attend, layer=kv, pages_BP=where[0], kv_lens_B=where[1], shape=shape) for kv in layers]
        )
        for shape in shapes
    ]


def _error(gpu: Gpu, format: KvFormat, shape: DecodeShape) -> float:
    """Return how far a cut is from the plain formula, relative to the norm."""
    lengths = [1088, 1, 333, 700, 64]
    batch = paged_batch(num_seqs=len(lengths), new=1, prefix=max(lengths) - 1, page_tokens=PAGE_TOKENS)
    q, kv = 3 * queries(batch), cache(batch, page_tokens=PAGE_TOKENS, format=format)
    batch.kv_lens_B.copy_(torch.tensor(lengths))
    got = attention_decode(
        gpu, q, kv, batch.pages_BP, batch.kv_lens_B, scale=DIM**-0.5, window=None, shape=shape
    )
    keys, values = (
        rows if scales is None else dequantize_rows(rows, scales, format, torch.float32)
        for rows, scales in kv.pages
    )
    numbers = KvLayer(keys_PKTD=keys, values_PKTD=values)
    wanted = torch.cat(
        [plain(q[i : i + 1], *dense(numbers, batch.pages_BP[i], length)) for i, length in enumerate(lengths)]
    )
    return float((got.float() - wanted).norm() / wanted.norm())


if __name__ == "__main__":
    words = sys.argv[1:]
    unknown = sorted(set(words) - set(FORMATS))
    if unknown:
        raise SystemExit(f"unknown formats {', '.join(unknown)}: there are {', '.join(FORMATS)}")
    with torch.inference_mode():
        main([format for format in FORMATS if format in words or not words])
