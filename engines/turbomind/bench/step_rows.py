"""Cases of the kernels around a decode step: its rows, its rotary tables, its tokens back to the host."""

from collections.abc import Iterator
from functools import partial

import torch

from engines.decoder.rope import Rope
from engines.spec import RopeSpec
from engines.steps.decode_rows import PAGES, SOURCE
from engines.turbomind.bench.attention_cases import DIM
from engines.turbomind.bench.table import Row
from engines.turbomind.bench.timing import time_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.rope_tables import rope_tables
from engines.turbomind.ops.step_rows import copy_ids, lay_out_rows

SIZES = (1, 64, 256)
PAGES_OF_A_SEQUENCE = 17  # 1,088 tokens in pages of 64
_VOCAB = 92553
_CALLS = 64


def steps(gpu: Gpu) -> Iterator[Row]:
    """Yield what a step is laid out with; torch's place is that of its copies between host and GPU."""
    rope = Rope(RopeSpec(theta=1e6), DIM, gpu.device)
    for num in SIZES:
        positions = torch.arange(num, device=gpu.device)
        lens = positions + 1
        yield Row(
            op="rope_tables",
            shape=f"T={num} D={DIM}",
            us=time_us([partial(rope_tables, gpu, rope, positions, lens)] * _CALLS),
            num_bytes=num * (2 * 8 + 2 * 4 * DIM // 2),
            torch_us=time_us([partial(rope.tables, positions, lens)] * _CALLS),
        )
        yield from _rows_and_ids(gpu, num)


def _rows_and_ids(gpu: Gpu, num: int) -> Iterator[Row]:
    is_pinned = gpu.device.type == "cuda"
    host = torch.zeros(num, PAGES + PAGES_OF_A_SEQUENCE, dtype=torch.int32, pin_memory=is_pinned)
    host[:, SOURCE] = -1
    there = torch.zeros_like(host, device=gpu.device)
    lay_out = partial(
        lay_out_rows,
        gpu,
        host,
        None,
        size=num,
        vocab=_VOCAB,
        tokens_5N=torch.zeros(5, num, dtype=torch.int64, device=gpu.device),
        kv_lens_N=torch.zeros(num, dtype=torch.int32, device=gpu.device),
        pages_NP=torch.zeros(num, PAGES_OF_A_SEQUENCE, dtype=torch.int32, device=gpu.device),
    )
    ids = torch.zeros(num, dtype=torch.int64, device=gpu.device)
    out = torch.zeros(num, dtype=torch.int64, pin_memory=is_pinned)
    yield Row(
        op="lay_out_rows",
        shape=f"B={num}, {PAGES_OF_A_SEQUENCE} pages each",
        us=time_us([lay_out] * _CALLS),
        num_bytes=2 * 4 * host.numel(),
        torch_us=time_us([partial(there.copy_, host, non_blocking=True)] * _CALLS),
    )
    yield Row(
        op="copy_ids",
        shape=f"B={num}",
        us=time_us([partial(copy_ids, gpu, ids, out)] * _CALLS),
        num_bytes=2 * 8 * num,
        torch_us=time_us([partial(out.copy_, ids, non_blocking=True)] * _CALLS),
    )
