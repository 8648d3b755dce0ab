"""What an engine may do beside its ops: contracts, each met by a function, or by None where nothing is done.

`engines/loading.py` and `engines/loops.py` call them, each in a phase of the start of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from engines.network import ChoosingNetwork, Network
from engines.ops import KvLayer, Ops
from engines.options import EngineOptions, SchedulerOptions
from engines.parallel import TpGroup
from engines.sampling.penalties import TokenCounts


class CompileAhead(Protocol):
    """Compiles all kernels that a network can ask for, unless an earlier start has."""

    def __call__(self, network: Network, options: EngineOptions, *, ops: Ops, dtype: torch.dtype) -> None: ...


class CaptureSteps(Protocol):
    """Returns a network around a network that repeats steps over these pages from recordings."""

    def __call__(
        self,
        network: Network,
        kv: Sequence[KvLayer],
        *,
        limits: SchedulerOptions,
        session_len: int,
        device: torch.device,
        dtype: torch.dtype,
        ops: Ops,
        counts: TokenCounts,
        tp: int,
    ) -> ChoosingNetwork: ...


class CapturePasses(Protocol):
    """Lets the picture encoder of a network repeat its passes from recordings."""

    def __call__(self, network: Network, *, max_tiles: int, device: torch.device) -> None: ...


class ConnectRanks(Protocol):
    """Lets a group that has joined sum in a way of the engine's own."""

    def __call__(self, ops: Ops, group: TpGroup) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Hooks:
    """All of it."""

    compile_ahead: CompileAhead | None = None  # None: there is nothing to compile
    capture_steps: CaptureSteps | None = None  # None: every step is launched op by op
    capture_passes: CapturePasses | None = None  # likewise
    connect_ranks: ConnectRanks | None = None  # None: sums are a library's
