"""Prints the time of sums over ranks: `python -m engines.turbomind.bench.rank_sums [RANKS ...]`.

Each rank is a process with a GPU of its own; a sum is right where it is that of NCCL, which is timed beside
it. With fewer GPUs than ranks they share the first, and sums are only checked: kernels that wait for each
other take turns there.
"""

import sys
import tempfile
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from engines.parallel import TpGroup
from engines.turbomind.bench.timing import time_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.sum_ranks import takes
from engines.turbomind.rank_sums import connect_ranks

RANKS = (2, 4)
HIDDEN = 4096
ROWS = (1, 8, 32, 64, 128, 256, 512, 1024)
CALLS = 20  # in a graph
REPEATS = 50  # of a check


def main(sizes: tuple[int, ...]) -> None:
    """Measure groups of these sizes."""
    print(f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, torch {torch.__version__}")
    print(f"{'ranks':>5} {'rows':>5} {'KB':>7} {'own us':>8} {'NCCL us':>8}", flush=True)
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
    group = TpGroup(rank=rank, size=size)
    connect_ranks(Gpu(device), group)
    if group.sums is None:
        raise SystemExit("the ranks do not reach each other")
    with torch.inference_mode():
        for rows in ROWS:
            x = torch.randn(rows, HIDDEN, device=device).bfloat16()
            if takes(x, size):
                _check(group, x)
            own = time_us([partial(group.all_reduce, x)] * CALLS) if apart and takes(x, size) else None
            library = time_us([partial(dist.all_reduce, x)] * CALLS) if apart else None
            if rank == 0:
                times = " ".join("       -" if us is None else f"{us:>8.2f}" for us in (own, library))
                print(f"{size:>5} {rows:>5} {rows * HIDDEN * 2 / 1024:>7.0f} {times}", flush=True)
    dist.destroy_process_group()


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


if __name__ == "__main__":
    main(tuple(int(word) for word in sys.argv[1:]) or RANKS)
