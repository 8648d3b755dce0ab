"""What one rank of a decoder moves and computes, from which the times of its steps follow.

Operations count a multiply-add as two. Sizes are a rank's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from deployer.plan.case import Case
from deployer.plan.narrow_weights import narrow_weights
from deployer.plan.weight_bytes import QUANTIZED, WeightPart, bytes_of
from engines.memory.kv_bytes import kv_token_bytes
from engines.spec import DecoderSpec
from engines.weights.decode_copy import (
    CAPABILITY,
    HEAD,
    MOST_ROWS_ALONE,
    CopyFormat,
    LayerCopy,
    by_format,
    most_rows,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderWork:
    """What one rank of a decoder moves and computes."""

    layer_weights: int
    layer_bytes: int
    head_weights: int
    head_bytes: int
    layer_copies: tuple[LayerCopy, ...]  # that a step of few rows reads in place of weights, by format
    head_copies: tuple[LayerCopy, ...]  # one or none
    copy_rows: Mapping[CopyFormat, int]  # of a step that reads them, at most
    copies_alone: bool  # steps of more rows unpack them first
    kv_token_bytes: int
    flops_per_pair: int  # attention of one query to one key, over all layers
    small_row_bytes: int  # what norms, rotation and activations move for one token, over all layers
    logits_row_bytes: int  # what the choice of a token moves for one sequence
    reduced_row_bytes: int  # what is summed over the ranks for one token; 0 with one rank
    gathered_row_bytes: int  # logits that a rank receives from the others for one sequence

    @property
    def saved_bytes(self) -> int:
        """What a step that reads every copy does not read of layers and head."""
        return sum(copy.saved_bytes for copy in (*self.layer_copies, *self.head_copies))

    def read(self, copies: tuple[LayerCopy, ...], rows: int, *, at_limit: bool) -> list[LayerCopy]:
        """Return the copies that a step of so many rows reads; at the limit all that have no first one."""
        every = at_limit and self.copies_alone
        return [copy for copy in copies if every or rows <= self.copy_rows[copy.format]]

    def unpacking_bytes(self, copies: tuple[LayerCopy, ...], rows: int) -> int:
        """Return what a step of so many rows moves to unpack copies: it reads 12 bits and writes 16."""
        if not self.copies_alone or len(self.read(copies, rows, at_limit=False)) == len(copies):
            return 0
        return sum(2 * copy.num_bytes + copy.saved_bytes for copy in copies)


def decoder_work(case: Case, parts: list[WeightPart]) -> DecoderWork:
    """Return the work of one rank. A model whose head is the embedding streams that table instead.

    One query and one key: 2 * head_dim for the score and 2 * head_dim for the weighted value, a head and
    layer. Summed over ranks: the outputs of attention and FFN, 2 rows of `hidden` a layer.

    Small kernels, a layer and token: two norms that add (read and write input and residual) 8 H; rotation
    and store of queries, keys and values 2 D (N + 2 K); gated activation 3 F. A greedy choice: the head's
    output read and written as float32, and that read.
    """
    decoder, tp = case.spec.decoder, case.tp
    layers = [part for part in parts if part.name in QUANTIZED]
    heads = [part for part in parts if part.name == "head"]
    narrow = narrow_weights(case)
    of_layers = by_format(
        copy for name, copy in narrow.layers.items() if name != HEAD and ".vision_" not in name
    )
    of_head = by_format(copy for name, copy in narrow.layers.items() if name == HEAD)
    saved = [sum(copy.saved_bytes for copy in some) if narrow.alone else 0 for some in (of_layers, of_head)]
    return DecoderWork(
        layer_weights=sum(part.num_weights for part in layers),
        layer_bytes=bytes_of(layers, *QUANTIZED) + saved[0],
        head_weights=sum(part.num_weights for part in heads),
        head_bytes=bytes_of(heads, "head") + saved[1],
        layer_copies=of_layers,
        head_copies=of_head,
        copy_rows={copy.format: _rows_read(case, copy.format) for copy in (*of_layers, *of_head)},
        copies_alone=narrow.alone,
        kv_token_bytes=kv_token_bytes(
            decoder, format=case.options.kv.format, dtype_bytes=case.dtype_bytes, tp=case.tp
        ),
        flops_per_pair=4 * decoder.head_dim * decoder.num_heads // tp * decoder.num_layers,
        small_row_bytes=decoder.num_layers * case.dtype_bytes * _small_numbers(decoder, tp=tp),
        logits_row_bytes=decoder.vocab * (case.dtype_bytes + 8),
        reduced_row_bytes=0 if tp == 1 else 2 * decoder.num_layers * decoder.hidden * case.dtype_bytes,
        gathered_row_bytes=decoder.vocab * case.dtype_bytes * (tp - 1) // tp,
    )


def _rows_read(case: Case, form: CopyFormat) -> int:
    """Return the rows of a step whose products read such weights as they are; engine=pytorch unpacks all."""
    if case.options.kind != "turbomind":
        return 0
    alone = case.weights == "bf12" and case.capability == CAPABILITY
    return MOST_ROWS_ALONE if alone else most_rows(form, case.capability)


def _small_numbers(decoder: DecoderSpec, *, tp: int) -> int:
    heads = decoder.num_heads + 2 * decoder.num_kv_heads
    return 8 * decoder.hidden + (2 * decoder.head_dim * heads + 3 * decoder.ffn) // tp
