"""Which op table an engine kind runs on which device: a registry, and what the device must be for it.

Op tables are imported when their engine is asked for, so nobody pays for an engine that does not run. An
engine that cannot run here says why; none is ever replaced by another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch

from engines.devices import DEVICES, compute_dtype
from engines.errors import DeviceError
from engines.network import ChoosingNetwork, Network
from engines.ops import KvLayer, Ops
from engines.options import EngineOptions, SchedulerOptions
from engines.parallel import TpGroup
from engines.sampling.penalties import TokenCounts

if TYPE_CHECKING:
    from engines.vision.parts import EncodePass


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


class CompileAhead(Protocol):
    """Compiles all kernels that a network can ask for, unless an earlier start has."""

    def __call__(self, network: Network, options: EngineOptions, *, ops: Ops, dtype: torch.dtype) -> None: ...


class ConnectRanks(Protocol):
    """Lets a group that has joined sum in a way of the engine's own."""

    def __call__(self, ops: Ops, group: TpGroup) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """Where and with what one rank computes."""

    device: torch.device
    dtype: torch.dtype
    ops: Ops
    group: TpGroup
    compile_ahead: CompileAhead | None  # None: there is nothing to compile
    capture_steps: CaptureSteps | None  # None: every step is launched op by op
    capture_passes: CapturePasses | None  # likewise
    connect_ranks: ConnectRanks | None  # None: sums are a library's
    copied_layers: frozenset[str] = frozenset()  # whose weights the loader keeps a second time


def open_backend(options: EngineOptions, checkpoint_dtype: str, *, rank: int = 0) -> Backend:
    """Return a rank's device, the compute dtype and the op table; raises DeviceError with what is missing."""
    if options.device == "auto" or options.kind == "auto":
        raise DeviceError(
            f"engine.kind={options.kind}, engine.device_type={options.device}: `auto` is resolved before an "
            "engine starts"
        )
    device = DEVICES[options.device](rank)
    return Backend(
        device=device,
        dtype=compute_dtype(options.dtype, checkpoint_dtype, device),
        ops=OP_TABLES[options.kind](device),
        group=TpGroup(rank=rank, size=options.tp),
        compile_ahead=COMPILERS.get(options.kind),
        capture_steps=CAPTURES.get(options.kind),
        capture_passes=PASS_CAPTURES.get(options.kind),
        connect_ranks=CONNECTS.get(options.kind),
    )


def _torch_ops(device: torch.device) -> Ops:
    from engines.pytorch.ops_torch import TorchOps

    return TorchOps()


def _turbomind_ops(device: torch.device) -> Ops:
    try:
        from engines.turbomind.gpu import Gpu
        from engines.turbomind.ops_table import TurbomindOps
    except ImportError as error:
        raise DeviceError(
            f"engine=turbomind does not import ({error}); pip install 'vlm-deployer[cuda]' or use "
            "engine=pytorch"
        ) from error
    return TurbomindOps(Gpu(device))


def _turbomind_kernels(network: Network, options: EngineOptions, *, ops: Ops, dtype: torch.dtype) -> None:
    from engines.turbomind.compile_ahead import compile_ahead
    from engines.turbomind.ops_table import TurbomindOps
    from engines.vision.vlm import Vlm

    assert isinstance(ops, TurbomindOps), "kernels are launched by this engine's own table"
    assert isinstance(network, Vlm), "what the loader makes"
    compile_ahead(ops.gpu, network, options, dtype=dtype)


def _turbomind_graphs(
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
) -> ChoosingNetwork:
    from engines.turbomind.batch_ladder import proposing_ladder
    from engines.turbomind.chunk_graphs import ChunkGraphs
    from engines.turbomind.chunk_ladder import chunk_ladder
    from engines.turbomind.graphs import CudaRecorder, DecodeGraphs
    from engines.turbomind.ops.choose_token import choose_token
    from engines.turbomind.ops.step_rows import copy_ids, lay_out_rows
    from engines.turbomind.ops_table import TurbomindOps

    assert isinstance(ops, TurbomindOps), "recorded steps are launched by this engine's own table"
    recorder = CudaRecorder()
    sizes = chunk_ladder(network.spec, tp=tp, max_tokens=limits.max_prefill_token_num + limits.max_batch_size)
    if sizes:
        chunks = ChunkGraphs(
            network,
            kv,
            sizes=sizes,
            max_batch_size=limits.max_batch_size,
            session_len=session_len,
            device=device,
            dtype=dtype,
            recorder=recorder,
        )
        chunks.capture()
        network = chunks
    seen_NV, outputs_NV = counts.tables()
    graphs = DecodeGraphs(
        network,
        kv,
        max_batch_size=limits.max_batch_size,
        session_len=session_len,
        device=device,
        recorder=recorder,
        choose=partial(choose_token, ops.gpu, seen_NV=seen_NV, outputs_NV=outputs_NV),
        lay_out=partial(lay_out_rows, ops.gpu),
        copy_ids=partial(copy_ids, ops.gpu),
        proposing_sizes=proposing_ladder(limits),
    )
    graphs.capture()
    return graphs


def _turbomind_passes(network: Network, *, max_tiles: int, device: torch.device) -> None:
    from engines.turbomind.graphs import CudaRecorder
    from engines.turbomind.pass_graphs import PassGraphs, pass_sizes
    from engines.vision.vlm import Vlm

    def record(encode: "EncodePass", tile_shape: tuple[int, ...], picture_tiles: int) -> "EncodePass":
        graphs = PassGraphs(
            encode,
            tile_shape=tile_shape,
            sizes=pass_sizes(max_tiles, picture_tiles=picture_tiles),
            device=device,
            recorder=CudaRecorder(),
        )
        graphs.capture()
        return graphs

    assert isinstance(network, Vlm), "what the loader makes"
    network.record_passes(record)


def _turbomind_connect(ops: Ops, group: TpGroup) -> None:
    from engines.turbomind.ops_table import TurbomindOps
    from engines.turbomind.rank_sums import connect_ranks

    assert isinstance(ops, TurbomindOps), "sums are launched by this engine's own table"
    connect_ranks(ops.gpu, group)


OP_TABLES: Mapping[str, Callable[[torch.device], Ops]] = {"pytorch": _torch_ops, "turbomind": _turbomind_ops}
COMPILERS: Mapping[str, CompileAhead] = {"turbomind": _turbomind_kernels}
CAPTURES: Mapping[str, CaptureSteps] = {"turbomind": _turbomind_graphs}
PASS_CAPTURES: Mapping[str, CapturePasses] = {"turbomind": _turbomind_passes}
CONNECTS: Mapping[str, ConnectRanks] = {"turbomind": _turbomind_connect}
