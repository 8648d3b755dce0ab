"""Bytes that one step allocates at most, and what captured steps keep.

Derived from the code that allocates. Measured once against it, InternVL2-8B in bfloat16 on one H200
(2026-11-22): a step of 8,192 tokens 0.942 GiB with engine=turbomind and 1.160 with engine=pytorch, an encoder
pass over 16 tiles 0.367 GiB; the formulas give the same to 1 %.

Each formula names the moment at which most tensors live at once. Encoder, decoder and sampling follow each
other, so they share memory and the largest counts.
"""

from dataclasses import replace
from math import prod

from deployer.plan.case import Case
from engines.memory.kv_bytes import kv_heads_per_rank, plain_bytes
from engines.turbomind.batch_ladder import ladder, proposing_ladder
from engines.turbomind.chunk_ladder import chunk_ladder
from engines.turbomind.scratch_bytes import scratch_bytes
from engines.weights.decode_copy import HEAD, bf12_alone

# One H200, torch 2.11, 2026-11-22: a first graph took 75 MB, each of seven more, of 384 nodes, 1.05 MB.
FIRST_GRAPH_BYTES = 75_000_000
GRAPH_NODE_BYTES = 2_700
# topk over a whole vocabulary: float32 values and int64 ids, both once more in order, and the sort's own.
# 256 x 92,553 on one H200, torch 2.11, 2026-11-26: 44.04 bytes a number.
ORDER_BYTES = 44
NODES_A_LAYER = 11  # 4 linear, 2 norms, rope, 2 stores, attention, activation


def decoder_bytes(case: Case) -> int:
    """Return activations of the largest step, T = `step_tokens` tokens, in `engines/decoder/llama_like.py`.

    All along: residual and normed input of the layer, both of the layer before in the caller's hands, 4 T H,
    and the rotary tables, T D float32 numbers. On top the larger of
        attention   q, k, v; q and k rotated; the output:   T D (3 N + 3 K)
        FFN         gate and up beside their product:       3 T F; in plain torch, silu apart, 4 T F
    with this rank's heads N, K and width F; and a weight of 12 bits, unpacked.
    """
    tables = case.step_tokens * case.spec.decoder.head_dim * 4
    return case.step_tokens * _token_width(case) * case.dtype_bytes + tables + unpacked_bytes(case)


def sampling_bytes(case: Case) -> int:
    """Return what `engines/sampling/next_token.py` holds for a full batch that draws, S rows of V logits.

    Float32 logits and the same over the temperatures, 2 * 4 bytes a number, beside what top_p takes: all
    logits in order, `ORDER_BYTES`. The steps before and after it hold less.
    """
    return case.options.scheduler.max_batch_size * case.spec.decoder.vocab * (2 * 4 + ORDER_BYTES)


def encoder_bytes(case: Case) -> int:
    """Return activations of one encoder pass over `vision.max_batch_size` tiles of the largest picture.

    The pixels of a tile, three colours, in float32 and in the compute dtype all along, and what the widest
    layer of the towers holds (`TowerSpec.tile_numbers`). Before a pass, a picture that came whole is there
    with 4 bytes a pixel, and at most as much between the two axes of its resizing.
    """
    vision = case.spec.vision
    if vision is None:
        return 0
    plan = vision.pixels.largest()
    layer = max(tower.tile_numbers(plan) for tower in vision.towers) * case.dtype_bytes
    numbers = sum(prod(shape) for shape in vision.pixels.shapes(plan)) // plan.num_tiles
    tiles = vision.assembly.tiles_a_pass(case.options.vision.max_batch_size)
    whole = 2 * 4 * case.options.vision.uncut_pixels if vision.pixels.cuts(plan) else 0
    return max(tiles * (layer + numbers * (4 + case.dtype_bytes)), whole)


def graph_bytes(case: Case) -> int:
    """Return what captured steps take (`graphs` and `chunk_graphs` of engines/turbomind); nothing elsewhere.

    They share the activations of the largest; with adapters each is there twice. Each adds its nodes; decode
    steps keep their own outputs, a normed row and V logits for each sequence, steps with chunks a normed row
    for each, and have room for rows of pictures and for quantized keys and values as numbers.
    """
    sizes, chunk_rows = graph_sizes(case), chunk_graph_rows(case)
    if not sizes:
        return 0
    decoder = case.spec.decoder
    most_rows = max(chunk_rows, default=0)
    activations = max(sizes[-1], most_rows) * _token_width(case) * case.dtype_bytes
    activations += most_rows * decoder.hidden * case.dtype_bytes + bool(chunk_rows) * unpacked_bytes(case)
    nodes = (len(sizes) + len(chunk_rows)) * NODES_A_LAYER * decoder.num_layers * GRAPH_NODE_BYTES
    outputs = sum(sizes) * (decoder.hidden + decoder.vocab) + len(chunk_rows) * sizes[-1] * decoder.hidden
    plain_kv = plain_bytes(
        decoder, format=case.options.kv.format, dtype_bytes=case.dtype_bytes, longest=0, tp=case.tp
    )
    each = (nodes + outputs * case.dtype_bytes) * (1 + bool(case.spec.adapters))
    return FIRST_GRAPH_BYTES + activations + each + bool(chunk_rows) * plain_kv


def unpacked_bytes(case: Case) -> int:
    """Return the largest layer of weights in 12 bits alone as a matrix, for steps of many rows."""
    if case.weights != "bf12":
        return 0
    layers = bf12_alone(case.spec, tp=case.tp)
    in_16_bits = (layer.num_bytes + layer.saved_bytes for name, layer in layers.items() if name != HEAD)
    return max(in_16_bits, default=0) * case.dtype_bytes // 2


def kernel_bytes(case: Case) -> int:
    """Return what kernels of engine=turbomind keep between launches; nothing elsewhere."""
    device = case.hardware
    if case.options.kind != "turbomind" or device.capability is None or device.num_sms is None:
        return 0
    major, minor = device.capability
    return scratch_bytes(
        case.spec.decoder,
        capability=(major, minor),
        num_sms=device.num_sms,
        page_tokens=case.options.kv.page_tokens,
        tp=case.tp,
    )


def graph_sizes(case: Case) -> list[int]:
    """Return the rows of the captured steps that decode, the most last; only engine=turbomind captures."""
    limits = case.options.scheduler
    return (
        [*proposing_ladder(limits), *ladder(limits.max_batch_size)]
        if case.options.kind == "turbomind"
        else []
    )


def chunk_graph_rows(case: Case) -> list[int]:
    """Return the rows of the captured steps with chunks of prompts; likewise."""
    if case.options.kind != "turbomind":
        return []
    limits = case.options.scheduler
    spec = replace(case.spec, quantization=case.quant)
    return chunk_ladder(spec, tp=case.tp, max_tokens=limits.max_prefill_token_num + limits.max_batch_size)


def _token_width(case: Case) -> int:
    """Return numbers that live at once for one token of a step."""
    decoder, tp = case.spec.decoder, case.tp
    heads = decoder.num_heads // tp + kv_heads_per_rank(decoder, tp=tp)
    ffn_copies = 4 if case.options.kind == "pytorch" else 3
    return 4 * decoder.hidden + max(3 * decoder.head_dim * heads, ffn_copies * decoder.ffn // tp)
