"""From `Start` to a loop that serves: device, weights, rehearsal, KV cache, each phase timed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from engines.backends import Backend, open_backend
from engines.loops import Loops
from engines.memory.device_memory import free_bytes, used_bytes
from engines.memory.kv_cache import allocate_kv, check_format
from engines.memory.kv_plan import KvPlan, plan_kv
from engines.messages import Ready, Start
from engines.network import Network
from engines.network_loaders import LOADERS, LoadNetwork, loaded
from engines.ops import KvLayer
from engines.options import EngineOptions
from engines.quant.decode_copies import layers_to_copy
from engines.sampling.grammar import Grammars
from engines.spec import ModelSpec
from engines.start_phases import StartPhases
from engines.steps.engine_loop import EngineLoop
from engines.steps.rehearsal import rehearse

Meet = Callable[[Backend], None]


def load_engine(
    start: Start,
    *,
    on_phase: Callable[[str], None],
    load: LoadNetwork | None = None,
    rank: int = 0,
    meet: Meet | None = None,
    overlap: bool | None = None,
) -> tuple[EngineLoop, Ready]:
    """Make everything that serving needs; raises EngineError with what is wrong.

    `load` replaces how the network is made; None: as `load_format` says. `meet` returns once every rank
    of the group has its weights and has joined; what comes after it computes together. `overlap`: whether a
    step is launched before the last one's results are taken; None: where the device works beside the host.
    """
    phases = StartPhases(on_phase)
    options = start.options
    load = load or LOADERS[options.load_format]
    with phases.of("device"):
        backend = open_backend(options, start.spec.dtype, rank=rank)
        at_first = used_bytes(backend.device)
    spec = _stretched(start)
    check_format(spec.decoder, options.kv, dtype=backend.dtype, kind=options.kind)  # before anything loads
    layers = layers_to_copy(spec, options, device=backend.device, dtype=backend.dtype)
    backend = replace(backend, copied_layers=layers)
    grammars = _grammars(start, spec)
    with phases.of("weights"):
        network = loaded(load, Path(start.folder), spec, backend)
        weight_bytes = used_bytes(backend.device) - at_first
    if backend.hooks.compile_ahead is not None:
        with phases.of("kernels"):
            backend.hooks.compile_ahead(network, options, ops=backend.ops, dtype=backend.dtype)
    _join(backend, network, options, phases, meet)
    with phases.of("rehearsal"):
        workspace_bytes = rehearse(network, options, device=backend.device, dtype=backend.dtype)
    with phases.of("kv_cache"):
        plan, kv = _pages(spec, backend, options, workspace_bytes=workspace_bytes)
    loops = Loops.of(
        network, kv, backend, options, plan, spec=spec, grammars=grammars, overlap=overlap, phases=phases
    )
    loop = loops.serving(phases)
    parts = {"weights": weight_bytes, "workspace": workspace_bytes}
    return loop, _ready(backend, plan, options, parts, phases)


def _stretched(start: Start) -> ModelSpec:
    """Return the model with the context length that the options ask for."""
    options = start.options
    decoder = start.spec.decoder.stretched(
        rope_scaling_factor=options.rope_scaling_factor, use_logn_attn=options.use_logn_attn
    )
    return replace(start.spec, decoder=decoder)


def _grammars(start: Start, spec: ModelSpec) -> Grammars:
    """Return what compiles grammars; with other ranks its trie is begun now: none knows when all rest."""
    speculation = start.options.scheduler.speculation
    proposes = speculation is not None and speculation.grammar_tokens > 0
    grammars = Grammars(start.vocabulary, vocab=spec.decoder.vocab, proposes=proposes)
    if start.options.tp > 1:
        grammars.begin()
    return grammars


def _join(
    backend: Backend, network: Network, options: EngineOptions, phases: StartPhases, meet: Meet | None
) -> None:
    """Capture the passes of the encoder, which every rank has whole, and join the group if there is one."""
    if backend.hooks.capture_passes is not None and network.spec.vision is not None:
        with phases.of("vision_graphs"):
            backend.hooks.capture_passes(
                network, max_tiles=options.vision.max_batch_size, device=backend.device
            )
    if meet is not None:
        with phases.of("meet"):
            meet(backend)
            if backend.hooks.connect_ranks is not None:
                backend.hooks.connect_ranks(backend.ops, backend.group)


def _pages(
    spec: ModelSpec, backend: Backend, options: EngineOptions, *, workspace_bytes: int
) -> tuple[KvPlan, list[KvLayer]]:
    """Return what the memory that is left holds, the same on every rank, and the pages."""
    free = backend.group.least(free_bytes(backend.device) - workspace_bytes, backend.device)
    plan = plan_kv(spec.decoder, options, itemsize=backend.dtype.itemsize, free_bytes=free)
    kv = allocate_kv(
        spec.decoder,
        options.kv,
        num_pages=plan.num_pages,
        tp=options.tp,
        dtype=backend.dtype,
        device=backend.device,
    )
    return plan, kv


def _ready(
    backend: Backend, plan: KvPlan, options: EngineOptions, bytes_by_part: dict[str, int], phases: StartPhases
) -> Ready:
    return Ready(
        device=_device_name(backend.device),
        dtype=str(backend.dtype).removeprefix("torch."),
        session_len=plan.session_len,
        page_tokens=options.kv.page_tokens,
        num_pages=plan.num_pages,
        page_bytes=plan.page_bytes,
        bytes_by_part={**bytes_by_part, "kv_cache": plan.num_pages * plan.page_bytes},
        phase_s=phases.seconds,
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return f"{device} ({torch.get_device_module(device).get_device_name(device)})"
