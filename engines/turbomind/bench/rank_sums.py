"""Prints the time of sums over ranks: `python -m engines.turbomind.bench.rank_sums [RANKS ...]`.

Each rank is a process with a GPU of its own; a sum is right where it is that of what all ranks have, NCCL is
timed beside it. The last two columns are a sum and the norm behind it, one after the other and in one kernel.
With fewer GPUs than ranks they share the first, and sums are only checked: kernels that wait for each other
take turns there.
"""

import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from engines.parallel import TpGroup
from engines.turbomind.bench.timing import time_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import norm, quantize_rows
from engines.turbomind.ops.norm_of_sum import add_rms_norm, add_rms_norm_codes
from engines.turbomind.ops.sum_ranks import takes
from engines.turbomind.ops.sum_ranks_norm import takes_rows
from engines.turbomind.rank_sums import connect_ranks

RANKS = (2, 4)
HIDDEN = 4096
EPS = 1e-5
ROWS = (1, 8, 16, 32, 64, 128, 256, 512, 1024)
CALLS = 20  # in a graph
REPEATS = 50  # of a check


def main(sizes: tuple[int, ...]) -> None:
    """Measure groups of these sizes."""
    print(f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, torch {torch.__version__}")
    titles = ("own us", "NCCL us", "+ norm", "in one")
    print(f"{'ranks':>5} {'rows':>5} {'KB':>7} {' '.join(f'{title:>8}' for title in titles)}", flush=True)
    for size in sizes:
        with tempfile.NamedTemporaryFile() as store:
            arguments = (size, f"{store.name}.{size}", torch.cuda.device_count() >= size)
            spawn(_rank, arguments, nprocs=size)  # type: ignore[no-untyped-call]


def _rank(rank: int, size: int, store: str, apart: bool) -> None:
    device = torch.device("cuda", rank if apart else 0)
    torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if apart else "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=60),
        device_id=device if apart else None,
    )
    group, gpu = TpGroup(rank=rank, size=size), Gpu(device)
    connect_ranks(gpu, group)
    if group.sums is None:
        raise SystemExit("the ranks do not reach each other")
    with torch.inference_mode():
        for rows in ROWS:
            x = torch.randn(rows, HIDDEN, device=device).bfloat16()
            calls = _calls(gpu, group, x)
            if takes(x, size):
                _check(group, x)
            if calls[-1] is not None:
                _check_norm(gpu, group, x)
            times = [time_us([call] * CALLS) if apart and call is not None else None for call in calls]
            if rank == 0:
                cells = " ".join("       -" if us is None else f"{us:>8.2f}" for us in times)
                print(f"{size:>5} {rows:>5} {rows * HIDDEN * 2 / 1024:>7.0f} {cells}", flush=True)
    dist.destroy_process_group()


def _calls(gpu: Gpu, group: TpGroup, x: Tensor) -> list[Callable[[], object] | None]:
    """Return what is timed, in the order of the columns; None where a kernel does not take x."""
    weight_H = torch.ones(HIDDEN, dtype=x.dtype, device=x.device)
    residual = torch.randn_like(x)

    def apart() -> None:
        norm.add_rms_norm(gpu, group.all_reduce(x), residual, weight_H, EPS)

    def in_one() -> None:
        add_rms_norm(gpu, x, residual, weight_H, EPS, group)

    own = takes(x, group.size)
    return [
        partial(group.all_reduce, x) if own else None,
        partial(dist.all_reduce, x),
        apart if own else None,
        in_one if takes_rows(x, group.size) else None,
    ]


def _check(group: TpGroup, x: torch.Tensor) -> None:
    """Raise where a sum is not that of what the ranks have, rounded once, or differs between them."""
    for turn in range(REPEATS):
        share = x * (turn + 1)
        shares = [torch.empty_like(share) for _ in range(group.size)]
        dist.all_gather(shares, share)
        wanted = torch.zeros_like(share, dtype=torch.float32)
        for one in shares:
            wanted += one.float()
        found = group.all_reduce(share.clone())
        if not torch.equal(found, wanted.bfloat16()):
            raise SystemExit(f"rank {group.rank}: a sum of {list(x.shape)} over {group.size} ranks is wrong")


def _check_norm(gpu: Gpu, group: TpGroup, x: Tensor) -> None:
    """Raise where a sum and its norm in one kernel are not those of two, to the bit."""
    weight_H = torch.randn(HIDDEN, device=x.device).to(x.dtype)
    dist.broadcast(weight_H, 0)
    for turn in range(REPEATS):
        share, residual = x * (turn + 1), torch.full_like(x, turn)
        total = group.all_reduce(share.clone())
        wanted = (
            *norm.add_rms_norm(gpu, total, residual, weight_H, EPS),
            *quantize_rows.add_rms_norm_codes(gpu, total, residual, weight_H, EPS, torch.int8),
        )
        found = (
            *add_rms_norm(gpu, share, residual, weight_H, EPS, group),
            *add_rms_norm_codes(gpu, share, residual, weight_H, EPS, torch.int8, group),
        )
        if not all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True)):
            raise SystemExit(f"rank {group.rank}: a normed sum of {list(x.shape)} is wrong")


if __name__ == "__main__":
    main(tuple(int(word) for word in sys.argv[1:]) or RANKS)
