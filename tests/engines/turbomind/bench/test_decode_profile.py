"""The table of a step's kernels: arithmetic on spans, and spans of a real graph."""

import pytest
import torch

from engines.turbomind.bench.decode_profile import KernelTime, kernel_times, replay_times, table
from engines.turbomind.bench.timing import capture


def test_spans_become_counts_and_times_of_one_replay_slowest_first() -> None:
    spans = [("norm", 1.0), ("linear", 40.0), ("norm", 3.0), ("linear", 44.0), ("norm", 2.0), ("norm", 2.0)]
    assert kernel_times(spans, replays=2) == [
        KernelTime(name="linear", count=1, us=42.0),
        KernelTime(name="norm", count=2, us=4.0),
    ]


def test_a_table_shows_shares_and_sums_up_what_it_does_not_name() -> None:
    lines = table([KernelTime(name=f"kernel {i}", count=2, us=50.0 - i) for i in range(20)]).splitlines()
    assert len(lines) == 1 + 16 + 2
    assert lines[1].split() == ["kernel", "0", "2", "50.0", "25.00", "6.2%"]
    assert lines[-2].split() == ["4", "others", "8", "130.0", "16.25", "16.0%"]
    assert lines[-1].split()[:3] == ["sum", "40", "810.0"]


def test_a_graph_without_kernels_gives_an_empty_table() -> None:
    assert table([]).splitlines()[-1].split() == ["sum", "0", "0.0", "0.00", "0.0%"]


@pytest.mark.gpu
def test_kernels_of_a_replayed_graph_are_counted(cuda_gpu) -> None:
    x = torch.ones(1 << 20, device="cuda")
    graph = capture([lambda: x.mul_(1.0), lambda: x.mul_(1.0)])
    kernels = replay_times(graph.replay)
    assert sum(kernel.count for kernel in kernels) == 2 and kernels[0].us > 0
