"""Stands in for a recorder of CUDA graphs where Python must not run again: its tensor operations do."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Tensors = TypeVar("Tensors", bound=tuple[torch.Tensor, ...])


class OpTape:
    """Runs once and notes each operation; a replay has each write into the tensor that it gave then."""

    def record(self, runs: Sequence[Callable[[], Tensors]]) -> list[tuple[Callable[[], None], Tensors]]:
        return [self._recorded(run) for run in runs]

    def _recorded(self, run: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
        with _Noted() as noted:
            outputs = run()

        @torch.inference_mode()
        def replay() -> None:
            for operation, arguments, named, given in noted.operations:
                fresh = operation(*arguments, **named)
                if fresh.data_ptr() != given.data_ptr():  # else a view, or in place
                    given.copy_(fresh)

        return replay, outputs


class _Noted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, found))
        return found
