"""CUDA graphs: computations on fixed tensors that can be repeated for the price of one launch.

What is recorded, and from which memory it reads, is up to who asks: `graphs.py` (decode steps),
`chunk_graphs.py` (steps with chunks of prompts), `pass_graphs.py` (pictures).
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from engines.spec import ModelSpec

Tensors = TypeVar("Tensors", bound=tuple[Tensor, ...])


class Recorder(Protocol):
    """Turns computations on fixed tensors into ones that can be repeated."""

    def record(self, runs: Sequence[Callable[[], Tensors]]) -> list[tuple[Callable[[], None], Tensors]]:
        """Return for each a function that repeats it, and the tensors it leaves its results in."""
        ...


class CudaRecorder:
    """Records into CUDA graphs that share one pool of memory; record the largest first."""

    def __init__(self) -> None:
        self._pool: Any = None

    def record(self, runs: Sequence[Callable[[], Tensors]]) -> list[tuple[Callable[[], None], Tensors]]:
        """Run each once for what has to be compiled and allocated, then capture.

        One after the other: before a capture torch waits for the device and gives back the memory that it
        keeps, which a run in between would ask for anew.
        """
        for run in runs:
            run()
        return [self._captured(run) for run in runs]

    def _captured(self, run: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
        graph = torch.cuda.CUDAGraph()
        # Other threads go on calling CUDA meanwhile: NCCL's watchdog does.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outputs = run()
        self._pool = self._pool or graph.pool()
        return graph.replay, outputs


def recordings(sizes: Sequence[int], spec: ModelSpec) -> list[tuple[int, bool]]:
    """Return the steps to record, the largest first: how many rows, and whether adapters add to them."""
    return [
        (size, adapted) for size in reversed(sizes) for adapted in (False, True)[: 1 + bool(spec.adapters)]
    ]
