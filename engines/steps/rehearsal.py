"""The largest step, run once before the KV cache is sized: warms up and measures what a step needs.

On a GPU a step of `max_prefill_token_num` prompt tokens, a full batch of sampled rows and a full encoder
pass give the workspace in bytes. On a CPU a small step is run for its side effects only: the share of host
memory that `engines/memory/device_memory.py` leaves alone has room for steps.
"""

from math import isqrt

import numpy as np
import torch
from msgspec.structs import replace

from engines.errors import DeviceError
from engines.memory.kept_bytes import kept_bytes
from engines.memory.kv_cache import allocate_kv
from engines.memory.prefix_cache import root_key
from engines.messages import greedy
from engines.network import Network
from engines.options import EngineOptions, VisionOptions
from engines.sampling.next_token import row_logprobs, sample
from engines.sampling.penalties import TokenCounts
from engines.sampling.sampling_rows import logprob_rows, sampling_rows
from engines.schedule.batch_plan import BatchPlan, Chunk
from engines.schedule.sequence import Sequence
from engines.steps.batch import step_input
from engines.vision.parts import ImagePixels

SMALL_STEP_TOKENS = 32


@torch.inference_mode()
def rehearse(network: Network, options: EngineOptions, *, device: torch.device, dtype: torch.dtype) -> int:
    """Return the bytes that serving takes beside weights and pages; 0 on a CPU.

    Raises DeviceError where the largest step does not fit.
    """
    try:
        step_bytes = _largest_step(network, options, device=device, dtype=dtype)
    except torch.OutOfMemoryError as error:
        limits = options.scheduler
        raise DeviceError(
            f"the largest step (engine.max_prefill_token_num={limits.max_prefill_token_num}, "
            f"engine.max_batch_size={limits.max_batch_size}, "
            f"vision.max_batch_size={options.vision.max_batch_size}) does not fit on {device} beside the "
            f"weights; lower one of them ({error})"
        ) from error
    if device.type == "cpu":
        return 0
    return step_bytes + kept_bytes(network.spec, options, itemsize=dtype.itemsize).total


def _largest_step(
    network: Network, options: EngineOptions, *, device: torch.device, dtype: torch.dtype
) -> int:
    is_gpu = device.type != "cpu"
    longest = network.spec.decoder.max_positions
    num_tokens = min(options.scheduler.max_prefill_token_num if is_gpu else SMALL_STEP_TOKENS, longest)
    module = torch.get_device_module(device) if is_gpu else None
    kv = allocate_kv(
        network.spec.decoder,
        options.kv,
        num_pages=-(-num_tokens // options.kv.page_tokens),
        tp=options.tp,
        dtype=dtype,
        device=device,
    )
    before = 0
    if module is not None:
        module.reset_peak_memory_stats(device)
        before = module.memory_allocated(device)
    has_adapters = bool(network.spec.adapters)
    plan = _one_prompt(num_tokens, options.kv.page_tokens, has_adapters=has_adapters)
    step = step_input(plan, page_tokens=options.kv.page_tokens, device=device, features={})
    hidden_SH = network.hidden(step, kv)
    rows = options.scheduler.max_batch_size if is_gpu else 1
    logits_SV = network.logits(hidden_SH.repeat(rows, 1))
    counts = TokenCounts(max_sequences=1, vocab=logits_SV.shape[1], device=device)
    chunks = [*plan.chunks] * rows
    ids_S = sample(logits_SV, sampling_rows(chunks, counts, logits_SV.shape[1]))
    wanted = logprob_rows(chunks)
    assert wanted is not None, "the prompt asks for them"
    row_logprobs(logits_SV, ids_S, wanted).top_ids_RA.tolist()
    _encode(network, options.vision.max_batch_size, largest=is_gpu)
    if options.vision.uncut_pixels:
        _cut(network, options.vision)
    if module is None:
        return 0
    module.synchronize(device)
    return int(module.max_memory_allocated(device) - before)


def _encode(network: Network, max_tiles: int, *, largest: bool) -> None:
    """Encode one small picture, or so many of the largest that a pass is full."""
    vision = network.spec.vision
    if vision is None:
        return
    plan = vision.pixels.largest() if largest else vision.pixels.low_detail().plan(64, 64)
    arrays = tuple(np.zeros(shape, dtype=np.uint8) for shape in vision.pixels.shapes(plan))
    image = ImagePixels(arrays=arrays, plan=plan, shared=vision.assembly.shared([plan]))
    count = -(-vision.assembly.tiles_a_pass(max_tiles) // plan.num_tiles) if largest else 1
    network.encode_images([image] * count, max_tiles=max_tiles)


def _cut(network: Network, options: VisionOptions) -> None:
    """Cut and encode the largest picture that comes whole, where the model's pictures do."""
    vision = network.spec.vision
    side = isqrt(options.uncut_pixels)
    if vision is None or not vision.pixels.cuts(plan := vision.pixels.plan(side, side)):
        return
    picture = np.zeros((side, side, 4), dtype=np.uint8)
    image = ImagePixels(arrays=(picture,), plan=plan, is_cut=False)
    network.encode_images([image], max_tiles=options.max_batch_size)


def _one_prompt(num_tokens: int, page_tokens: int, *, has_adapters: bool) -> BatchPlan:
    """Return a step with one prompt whose next token is drawn from the whole vocabulary."""
    sequence = Sequence(
        request_id="rehearsal",
        token_ids=[0] * num_tokens,
        num_prompt_tokens=num_tokens,
        images=(),
        sampling=replace(greedy(1), temperature=1.0, top_p=0.9, logprobs=0),
        max_tokens=num_tokens + 1,
        priority=0,
        arrival=0,
        root_key=root_key(0),
        submitted_s=0.0,
        adapter=0 if has_adapters else None,
    )
    sequence.pages.extend(range(-(-num_tokens // page_tokens)))
    return BatchPlan.of([Chunk(sequence=sequence, start=0, num_tokens=num_tokens)], [])
