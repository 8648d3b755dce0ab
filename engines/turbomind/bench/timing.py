"""Time of an op as it runs in an engine: inside a CUDA graph, on operands that come from memory."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial

import torch

Call = Callable[[], object]

# Operand sets are rotated until together they are several times the largest L2 in use (H200: 60 MB).
ROTATED_BYTES = 400_000_000
_MOST_SETS = 64


def num_sets(bytes_per_call: int) -> int:
    """Return how many operand sets a rotation needs."""
    return max(2, min(_MOST_SETS, -(-ROTATED_BYTES // max(1, bytes_per_call))))


def time_us(calls: Sequence[Call], *, replays: int = 15) -> float:
    """Return the median time of one call in microseconds: all calls in one graph, replayed.

    Each call runs once before, so that compilation and first allocations stay outside.
    """
    graph = capture(calls)
    for _ in range(3):
        graph.replay()
    times: list[float] = []
    for _ in range(replays):
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's stubs
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times) * 1000 / len(calls)


def sustained_us(calls: Sequence[Call], *, seconds: float) -> float:
    """Return the mean time of one call in microseconds after as many seconds of the same before.

    Large products draw all the power that a GPU may take: its clock falls within 0.1 s, which a burst misses.
    """
    graph = capture(calls)
    ends = [torch.cuda.Event(enable_timing=True) for _ in range(4)]  # type: ignore[no-untyped-call]
    ends[0].record()
    graph.replay()
    ends[1].record()
    ends[1].synchronize()
    replays = max(3, int(1000 * seconds / ends[0].elapsed_time(ends[1])))
    for end in ends[2:]:
        for _ in range(replays):
            graph.replay()
        end.record()
    ends[3].synchronize()
    elapsed_ms: float = ends[2].elapsed_time(ends[3])
    return elapsed_ms * 1000 / replays / len(calls)


def capture(calls: Sequence[Call]) -> torch.cuda.CUDAGraph:
    """Run the calls once on a stream beside, then capture them."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph


def random(*shape: int) -> torch.Tensor:
    """Return standard normal bf16 numbers on the GPU."""
    return torch.randn(shape, dtype=torch.bfloat16, device="cuda")


def copy_ceiling_gbps() -> float:
    """Return what a large copy reaches on this GPU, bytes read plus bytes written, in GB/s."""
    source = random(2**29)
    target = torch.empty_like(source)
    copy = partial(
        torch.neg, source, out=target
    )  # a copy proper becomes a copy node of the graph: half as fast
    return 4 * source.numel() / time_us([copy] * 4) / 1000


def matmul_ceiling_tflops() -> float:
    """Return what an 8192 x 8192 x 8192 bf16 product reaches on this GPU, in TFLOP/s."""
    a, b = random(8192, 8192), random(8192, 8192)
    return 2 * 8192**3 / time_us([partial(torch.matmul, a, b)] * 4) / 1e6
