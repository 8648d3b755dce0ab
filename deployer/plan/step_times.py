"""Seconds of a decode step, of reading a prompt and of encoding tiles on one rank; all ranks take as long.

Operations count a multiply-add as two. The limit leaves out norms, activations, sampling and launches, which
move few bytes; what is expected of a device that was measured counts them.

Legend: T rows of the input, W weights of the matrices, B sequences, C tokens that each has in the cache.
"""

from deployer.plan.case import Case
from deployer.plan.decoder_work import DecoderWork
from deployer.plan.rates import Rates
from deployer.plan.roofline import Bound, Time, all_reduce_bytes, joined, linear_time
from deployer.plan.weight_bytes import WeightPart, bytes_of
from engines.spec import VisionSpec
from engines.vision.parts import ImagePlan
from engines.weights.decode_copy import LayerCopy


def decode_time(case: Case, work: DecoderWork, rates: Rates, *, batch: int, context: int) -> Time:
    """Return the time of one token for each of B sequences.

    linear     max(layer and head bytes / bandwidth, 2 B W / rate)
    attention  max(B C * KV bytes a token / bandwidth, B C * operations a pair / rate)
    """
    keys = batch * min(context, case.spec.decoder.sliding_window or context)
    linear_s, linear_bound = _linear(work, rates, rows=batch, head_rows=batch)
    read_s = keys * work.kv_token_bytes / rates.bytes_per_s
    pairs_s = keys * work.flops_per_pair / rates.flops_per_s
    return joined(
        linear_s=linear_s,
        linear_bound=linear_bound,
        attention_s=max(read_s, pairs_s) / rates.decode_attention_share,
        attention_bound="kv" if read_s >= pairs_s else "compute",
        link_s=_link_s(case, work, rates, rows=batch, sampled=batch),
        other_s=_other_s(case, work, rates, rows=batch, sampled=batch),
    )


def prefill_time(case: Case, work: DecoderWork, rates: Rates, *, tokens: int, prompts: int = 1) -> Time:
    """Return the time to read prompts of this many tokens together, in the steps of `Case.prefill_tokens`.

    A step of T tokens: linear max(bytes / bandwidth, 2 T W / rate), the head for one row. Attention of a
    prompt of P tokens, in however many steps: P^2 / 2 * operations a pair / rate; behind a window of W tokens
    each sees W: W^2 / 2 + (P - W) W.
    """
    linear_s = link_s = other_s = 0.0
    linear_bound: Bound = "weights"
    total = tokens * prompts
    for step, times in _parts(total, case.prefill_tokens(total)):
        step_s, linear_bound = _linear(work, rates, rows=step, head_rows=1)
        linear_s += times * step_s
        link_s += times * _link_s(case, work, rates, rows=step, sampled=1)
        other_s += times * _other_s(case, work, rates, rows=step, sampled=1)
    seen = min(tokens, case.spec.decoder.sliding_window or tokens)
    pairs = prompts * (seen**2 / 2 + (tokens - seen) * seen)
    pairs_s = pairs * work.flops_per_pair / rates.flops_per_s
    return joined(
        linear_s=linear_s,
        linear_bound=linear_bound,
        attention_s=pairs_s / rates.prefill_attention_share,
        attention_bound="compute",
        link_s=link_s,
        other_s=other_s,
    )


def _parts(total: int, most: int) -> list[tuple[int, int]]:
    """Return the sizes in which `total` is taken, `most` at once, and how often each comes."""
    whole, rest = divmod(total, most)
    return [(size, times) for size, times in ((most, whole), (rest, 1)) if size * times]


def encode_time(case: Case, parts: list[WeightPart], rates: Rates, *, tiles: int, plan: ImagePlan) -> float:
    """Return seconds to encode tiles in passes of `vision.max_batch_size`; every rank encodes all of them.

    `plan` is that of the picture they are of: some towers take tiles of any size.

    A pass: max(tower and projector bytes / bandwidth, operations / rate), and the operations of attention /
    rate.
    """
    vision = case.spec.vision
    assert vision is not None, "a picture was planned"
    num_bytes = bytes_of(parts, "tower", "projector")
    linear_flops, attention_flops = tile_flops(vision, case.spec.decoder.hidden, plan)
    total_s, most = 0.0, vision.assembly.tiles_a_pass(case.options.vision.max_batch_size)
    for num, times in _parts(tiles, most):
        compute_s = num * linear_flops / rates.flops_per_s
        linear_s, _ = linear_time(num_bytes=num_bytes, bytes_per_s=rates.bytes_per_s, compute_s=compute_s)
        total_s += times * (linear_s + num * attention_flops / rates.flops_per_s)
    return total_s / rates.encoder_share


def tile_flops(vision: VisionSpec, hidden: int, plan: ImagePlan) -> tuple[int, int]:
    """Return operations of the matrix products and of the attention of one tile of a picture.

    Each tower says its own (`TowerSpec.tile_flops`); the projector, for each of the tile's rows, as well.
    """
    towers = [tower.tile_flops(plan) for tower in vision.towers]
    rows = vision.num_tokens(plan) // plan.num_tiles
    projector = rows * vision.projector.row_flops(vision.towers[0].hidden, hidden)
    return sum(linear for linear, _ in towers) + projector, sum(attention for _, attention in towers)


def _linear(work: DecoderWork, rates: Rates, *, rows: int, head_rows: int) -> tuple[float, Bound]:
    """Return seconds and bound of the layers' matrix products over `rows` and of the head's over its own.

    At the limit all of them stream and compute at once; what is reached of it is the mean of both shares.
    Few rows read the second copy of a weight that has one; weights in 12 bits alone are unpacked for more.
    """
    at_limit = rates.reached is None
    layer_bytes, layer_share = _streamed(
        work.layer_bytes,
        work.read(work.layer_copies, rows, at_limit=at_limit),
        rates,
        rows=rows,
        share=rates.layer_share(rows),
    )
    head_bytes, head_share = _streamed(
        work.head_bytes,
        work.read(work.head_copies, head_rows, at_limit=at_limit),
        rates,
        rows=head_rows,
        share=rates.plain_share(head_rows),
    )
    layers_s = 2 * rows * work.layer_weights / rates.layer_flops_per_s
    head_s = 2 * head_rows * work.head_weights / rates.flops_per_s
    least_s, bound = linear_time(
        num_bytes=layer_bytes + head_bytes,
        bytes_per_s=rates.bytes_per_s,
        compute_s=layers_s + head_s,
    )
    of_layers = layers_s / (layers_s + head_s)
    if bound == "weights":
        of_layers = layer_bytes / (layer_bytes + head_bytes)
    slowdown = of_layers / layer_share + (1 - of_layers) / head_share
    return least_s * slowdown + _unpacking_s(work, rates, rows=rows, head_rows=head_rows), bound


def _unpacking_s(work: DecoderWork, rates: Rates, *, rows: int, head_rows: int) -> float:
    """Return the time in which weights of 12 bits become those of 16; at the limit that takes none."""
    if rates.reached is None:
        return 0.0
    layers, head = ((work.layer_copies, rows), (work.head_copies, head_rows))
    return (work.unpacking_bytes(*layers) + work.unpacking_bytes(*head)) / rates.bytes_per_s


def _streamed(
    num_bytes: int, read: list[LayerCopy], rates: Rates, *, rows: int, share: float
) -> tuple[int, float]:
    """Return the bytes that products over so many rows read, and which share of the limit they reach.

    `num_bytes` and `share` are those of the weights alone; `read` are the copies in place of some of them.
    """
    parts = [(copy.num_bytes, rates.copy_share(copy.format, rows)) for copy in read]
    parts.append((num_bytes - sum(copy.num_bytes + copy.saved_bytes for copy in read), share))
    streamed = sum(part for part, _ in parts)
    return streamed, streamed / sum(part / reached for part, reached in parts)


def _other_s(case: Case, work: DecoderWork, rates: Rates, *, rows: int, sampled: int) -> float:
    if rates.reached is None:
        return 0.0
    moved = rows * work.small_row_bytes + sampled * work.logits_row_bytes
    fixed_s = case.spec.decoder.num_layers * rates.reached.layer_s + rates.reached.step_s
    return fixed_s + moved / rates.bytes_per_s


def _link_s(case: Case, work: DecoderWork, rates: Rates, *, rows: int, sampled: int) -> float:
    """Return the time of the sums over ranks; the logits need not be gathered, but are."""
    if case.tp == 1:
        return 0.0
    gathered = 0 if rates.reached is None else sampled * work.gathered_row_bytes
    sent = all_reduce_bytes(rows * work.reduced_row_bytes, ranks=case.tp) + gathered
    return sent / rates.link_bytes_per_s + 2 * case.spec.decoder.num_layers * rates.all_reduce_s
