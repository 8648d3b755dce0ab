"""Which kernels the steps and encoder passes of a deployment can ask for, without running any of them.

The network itself is walked through with tensors that hold no numbers (torch's `meta` device), at numbers of
rows on both sides of wherever a launcher may choose otherwise, over an op table whose kernels are noted
instead of launched. What a choice depends on thus stands in the launchers alone. Called at a start by
`compile_ahead.py`; knows nothing about compilers.

Legend: as in `engines/steps/step.py`; H hidden.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from engines.memory.kv_cache import allocate_kv
from engines.options import EngineOptions
from engines.sampling.choice_rows import CHOICE_WORDS
from engines.spec import ModelSpec, VisionSpec
from engines.steps.decode_rows import PAGES
from engines.steps.step import AttentionBatch, StepInput
from engines.turbomind.batch_ladder import proposing_ladder
from engines.turbomind.cubins import Module
from engines.turbomind.gpu import Gpu
from engines.turbomind.noting_gpu import META, AloneInGroup, NotingGpu, scaled_products_of_nothing
from engines.turbomind.ops.choose_token import choose_token
from engines.turbomind.ops.step_rows import copy_ids, lay_out_rows
from engines.turbomind.ops_table import TurbomindOps
from engines.turbomind.pass_graphs import pass_sizes
from engines.turbomind.picture_products import ProductNotingOps
from engines.vision.parts import ImagePixels, ImagePlan
from engines.vision.vlm import Vlm

# Rows that are asked about: each one up to the first number, then a multiple and the next one of each span.
# Launchers round rows up to multiples of 8 or choose at a number and the one behind it, and cut many rows
# into tiles of 128.
_EACH = 16
_SPANS = ((128, 8), (640, 32), (1 << 30, 128))
_SIDES = (32, 224, 448, 672, 896, 1344, 2016)  # of pictures, in pixels
_UNEVEN = (924, 700)  # 33 x 25 cells of 28 pixels: sizes that are no multiple of another come, too


def survey(
    outline: Mapping[str, Tensor],
    spec: ModelSpec,
    options: EngineOptions,
    gpu: Gpu,
    *,
    dtype: torch.dtype,
    wanted: Callable[[Module], None],
) -> None:
    """Name each module that a rank with these parameters can ask for, once, as soon as it is known.

    The outline has the parameters without numbers.
    """
    noting = NotingGpu(gpu, wanted)
    group, spec = AloneInGroup(size=options.tp), _shortened(spec)
    network = Vlm(spec, outline, ops=TurbomindOps(noting), group=group)
    walk(network, options, _shapes(spec, options), dtype=dtype)
    with torch.inference_mode(), scaled_products_of_nothing():
        _walk_choice(noting, network, dtype=dtype)
        if spec.vision is not None:
            ops = ProductNotingOps(noting, {})
            _walk_passes(Vlm(spec, outline, ops=ops, group=group), spec.vision, options)
            if _differ_in_rows(spec.vision):
                ops.ask_between(row_counts)


def row_counts(most: int) -> Iterator[int]:
    """Yield the numbers of rows that are asked about, the last one exactly `most`."""
    yield from range(1, min(_EACH, most))
    start = _EACH
    for limit, span in _SPANS:
        for rows in range(start, min(limit, most) + 1, span):
            yield from (number for number in (rows, rows + 1) if number <= most)
        start = limit
    yield most


def _shortened(spec: ModelSpec) -> ModelSpec:
    """Return the model with three layers: the first, one that is like all others, and the last."""
    return replace(spec, decoder=replace(spec.decoder, num_layers=min(3, spec.decoder.num_layers)))


def walk(network: Vlm, options: EngineOptions, shapes: Iterable["StepShape"], *, dtype: torch.dtype) -> None:
    """Go through steps of these shapes, each behind prefixes as long as any."""
    limits, spec = options.scheduler, network.spec.decoder
    longest = min(limits.session_len or spec.max_positions, spec.max_positions)
    pages = -(-longest // options.kv.page_tokens)
    kv = allocate_kv(spec, options.kv, num_pages=pages, tp=options.tp, dtype=dtype, device=META)
    with torch.inference_mode(), scaled_products_of_nothing():
        for shape in shapes:
            step = shape.step(hidden=spec.hidden, num_pages=pages, longest=longest, dtype=dtype)
            network.logits(network.hidden(step, kv))


def _shapes(spec: ModelSpec, options: EngineOptions) -> Iterator["StepShape"]:
    """Yield the shapes of steps that are asked about.

    Rows decode, or are one chunk, or as many chunks as there may be; and rows that decode have a chunk beside
    them, or tokens that are proposed among them, which has them take other kernels.
    """
    limits, decoder = options.scheduler, spec.decoder
    sequences = limits.max_batch_size
    most_proposing = max(proposing_ladder(limits), default=0)
    treats_images_apart = bool(decoder.plora_rank) or decoder.kind != "llama_like"
    for rows in row_counts(limits.max_prefill_token_num + sequences):
        shapes = [StepShape(chunk_rows=rows, num_chunks=count) for count in {1, min(rows, sequences)}]
        if rows <= sequences:
            shapes.append(StepShape(num_decodes=rows))
            shapes.append(StepShape(num_decodes=rows, chunk_rows=1, num_chunks=1))
        if rows <= most_proposing:
            shapes.append(StepShape(num_decodes=rows, has_proposals=True))
        if treats_images_apart:
            shapes.append(StepShape(chunk_rows=rows, num_chunks=1, num_image_rows=rows))
        yield from shapes
        if spec.adapters:
            yield from (replace(shape, has_adapters=True) for shape in shapes)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepShape:
    """The sizes of a step: of sequences that decode, and of chunks that share rows evenly."""

    num_decodes: int = 0
    chunk_rows: int = 0
    num_chunks: int = 0
    num_image_rows: int = 0
    has_adapters: bool = False
    has_proposals: bool = False

    def step(self, *, hidden: int, num_pages: int, longest: int, dtype: torch.dtype) -> StepInput:
        """Return the step without numbers."""
        rows, num_sequences = self.num_decodes + self.chunk_rows, self.num_decodes + self.num_chunks
        image_rows = self.num_image_rows
        return StepInput(
            token_ids_T=_ids(rows),
            positions_T=_ids(rows),
            rope_lens_T=_ids(rows),
            attention=AttentionBatch(
                num_decodes=self.num_decodes,
                q_starts_B1=_ids(num_sequences + 1, dtype=torch.int32),
                kv_lens_B=_ids(num_sequences, dtype=torch.int32),
                pages_BP=_ids(num_sequences, num_pages, dtype=torch.int32),
                slots_T=_ids(rows),
                max_q=max(1, -(-self.chunk_rows // max(1, self.num_chunks))),
                max_kv=longest,
                chunk_lens=(longest,) * self.num_chunks,
                has_proposals=self.has_proposals,
            ),
            sample_rows_S=_ids(num_sequences),
            feature_rows_M=_ids(image_rows),
            features_MH=torch.empty(image_rows, hidden, dtype=dtype, device=META) if image_rows else None,
            adapter_T=_ids(rows) if self.has_adapters else None,
            inner_rows_E=_ids(image_rows - 1) if image_rows > 1 else None,
        )


def _ids(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=META)


def _walk_passes(network: Vlm, vision: VisionSpec, options: EngineOptions) -> None:
    """Encode pictures of several sizes, and the smallest in numbers that fill passes to every degree."""
    smallest, largest = vision.pixels.low_detail().plan(_SIDES[0], _SIDES[0]), vision.pixels.largest()
    max_tiles = options.vision.max_batch_size
    full = vision.assembly.tiles_a_pass(max_tiles)
    for count in pass_sizes(full, picture_tiles=largest.num_tiles):
        _encode(network, smallest, count, max_tiles=max_tiles)
    for sides in (*((side, side) for side in _SIDES), _UNEVEN):
        _encode(network, vision.pixels.plan(*sides), 1, max_tiles=max_tiles)
    _encode(network, largest, -(-full // largest.num_tiles), max_tiles=max_tiles)
    side = _SIDES[-1] - 1  # of no tile's multiple: both axes change their size
    if options.vision.uncut_pixels and vision.pixels.cuts(plan := vision.pixels.plan(side, side)):
        picture = np.zeros((side, side, 4), dtype=np.uint8)
        whole = ImagePixels(arrays=(picture,), plan=plan, is_cut=False)
        network.encode_images([whole], max_tiles=max_tiles)


def _differ_in_rows(vision: VisionSpec) -> bool:
    """Return whether a tower takes pictures whole: tiles are all of one size."""
    plans = vision.pixels.low_detail().plan(_SIDES[0], _SIDES[0]), vision.pixels.largest()
    return any(len({tower.tile_tokens(plan) for plan in plans}) > 1 for tower in vision.towers)


def _encode(network: Vlm, plan: ImagePlan, count: int, *, max_tiles: int) -> None:
    vision = network.spec.vision
    assert vision is not None, "asked of models that see"
    arrays = tuple(np.zeros(shape, dtype=np.uint8) for shape in vision.pixels.shapes(plan))
    image = ImagePixels(arrays=arrays, plan=plan, shared=vision.assembly.shared([plan]))
    network.encode_images([image] * count, max_tiles=max_tiles)


def _walk_choice(gpu: Gpu, network: Vlm, *, dtype: torch.dtype) -> None:
    """Lay a step out, choose its tokens, and bring them to the host."""
    vocab = network.spec.decoder.vocab
    lay_out_rows(
        gpu,
        _ids(1, PAGES, dtype=torch.int32),
        None,
        size=1,
        vocab=vocab,
        tokens_5N=_ids(5, 1),
        kv_lens_N=_ids(1, dtype=torch.int32),
        pages_NP=_ids(1, 1, dtype=torch.int32),
    )
    seen_NV, outputs_NV = _ids(1, vocab, dtype=torch.bool), _ids(1, vocab, dtype=torch.int32)
    logits_SV = torch.empty(1, vocab, dtype=dtype, device=META)
    ids_S = choose_token(gpu, logits_SV, _ids(1, CHOICE_WORDS), seen_NV=seen_NV, outputs_NV=outputs_NV)
    copy_ids(gpu, ids_S, ids_S)
