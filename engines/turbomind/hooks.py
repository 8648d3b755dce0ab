"""What `engine=turbomind` does beside its ops: compiles ahead, records steps and passes, sums over ranks."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from engines.hooks import Hooks
from engines.network import ChoosingNetwork, Network
from engines.ops import KvLayer, Ops
from engines.options import EngineOptions, SchedulerOptions
from engines.parallel import TpGroup
from engines.sampling.penalties import TokenCounts
from engines.turbomind import compile_ahead, rank_sums
from engines.turbomind.batch_ladder import proposing_ladder
from engines.turbomind.chunk_graphs import ChunkGraphs
from engines.turbomind.chunk_ladder import chunk_ladder
from engines.turbomind.gpu import Gpu
from engines.turbomind.graphs import DecodeGraphs
from engines.turbomind.ops.choose_token import choose_token
from engines.turbomind.ops.step_rows import copy_ids, lay_out_rows
from engines.turbomind.ops_table import TurbomindOps
from engines.turbomind.pass_graphs import PassGraphs, pass_sizes
from engines.turbomind.recorder import CudaRecorder
from engines.vision.vlm import Vlm

if TYPE_CHECKING:
    from engines.vision.parts import EncodePass


def _compile_ahead(network: Network, options: EngineOptions, *, ops: Ops, dtype: torch.dtype) -> None:
    compile_ahead.compile_ahead(_gpu_of(ops), _vlm(network), options, dtype=dtype)


def _capture_steps(
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
    gpu, recorder = _gpu_of(ops), CudaRecorder()
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
        choose=partial(choose_token, gpu, seen_NV=seen_NV, outputs_NV=outputs_NV),
        lay_out=partial(lay_out_rows, gpu),
        copy_ids=partial(copy_ids, gpu),
        proposing_sizes=proposing_ladder(limits),
    )
    graphs.capture()
    return graphs


def _capture_passes(network: Network, *, max_tiles: int, device: torch.device) -> None:
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

    _vlm(network).record_passes(record)


def _connect_ranks(ops: Ops, group: TpGroup) -> None:
    rank_sums.connect_ranks(_gpu_of(ops), group)


def _gpu_of(ops: Ops) -> Gpu:
    assert isinstance(ops, TurbomindOps), "kernels are launched by this engine's own table"
    return ops.gpu


def _vlm(network: Network) -> Vlm:
    assert isinstance(network, Vlm), "what the loader makes"
    return network


HOOKS = Hooks(
    compile_ahead=_compile_ahead,
    capture_steps=_capture_steps,
    capture_passes=_capture_passes,
    connect_ranks=_connect_ranks,
)
