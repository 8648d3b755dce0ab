"""Work whose energy `joules.py` prints: memory alone, and what InternVL2-8B's decoder does."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from engines.network import Network
from engines.ops import Dense
from engines.options import KvFormat
from engines.turbomind.bench import prefill_step
from engines.turbomind.bench.attention_cases import DIM, cache, cache_bytes, paged_batch, queries
from engines.turbomind.bench.decode_cuts import cuts_of
from engines.turbomind.bench.decode_step import DECODER, LENGTH, MODEL, PAGE_TOKENS, decode, operands
from engines.turbomind.bench.decode_variants import VARIANTS
from engines.turbomind.bench.layers import LINEARS
from engines.turbomind.bench.linear_tiles import CODES, Layer, by_library, make_layer, product
from engines.turbomind.bench.timing import Call, num_sets, random
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import linear_even, linear_hopper
from engines.turbomind.ops.attention_decode import attention_decode
from engines.turbomind.ops.quantize_rows import quantize_rows
from engines.turbomind.ops.tiles_cut import CUTS, ROWS, make_cut
from engines.weights.load import random_network

_MANY_ROWS = 1024  # from which on products bind, not the bytes of weights
_SETS = 3  # of many rows: weights that take turns


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Calls that do the same on operands that take turns, and the unit of work that a call does."""

    name: str
    calls: Sequence[Call]
    amount: float
    unit: str  # of the amount


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a command line asks for."""

    rows: tuple[int, ...]  # of products, sequences of decode parts
    kinds: tuple[str, ...]
    layers: tuple[str, ...]
    kv: tuple[KvFormat, ...]
    variants: tuple[str, ...]


def copies(gpu: Gpu, asked: Asked) -> Iterator[Case]:
    """Yield memory and L2 alone: what a byte costs that nothing is done with."""
    for name, count in (("memory to memory", 2**29), ("L2 to L2", 2**22)):
        source = random(count)
        copy = partial(torch.neg, source, out=torch.empty_like(source))
        yield Case(name=name, calls=[copy] * 4, amount=4 * count, unit="B")


def products(gpu: Gpu, asked: Asked) -> Iterator[Case]:
    """Yield the ways to take linear layers; a byte is one of the weight."""
    for kind in asked.kinds:
        for name in asked.layers:
            for num_rows in asked.rows:
                yield from _product(gpu, kind, name, num_rows)


def _product(gpu: Gpu, kind: str, name: str, num_rows: int) -> Iterator[Case]:
    outputs, inputs = LINEARS[name]
    many = num_rows >= _MANY_ROWS
    num_bytes = outputs * inputs * (1 if kind in CODES else 2)
    layers = [make_layer(gpu, kind, outputs, inputs) for _ in range(_SETS if many else num_sets(num_bytes))]
    x = random(num_rows, inputs)
    codes, scale = quantize_rows(gpu, x, CODES[kind]) if kind in CODES else (x, None)
    for label, way in _ways(gpu, codes, scale, layers[0]):
        yield Case(
            name=f"{kind} {name} M={num_rows} {label}",
            calls=[partial(way, layer) for layer in layers],
            amount=2.0 * num_rows * outputs * inputs if many else num_bytes,
            unit="flop" if many else "B",
        )


def _ways(
    gpu: Gpu, x: Tensor, scale: Tensor | None, layer: Layer
) -> Iterator[tuple[str, Callable[[Layer], Tensor]]]:
    """Yield what can take a layer, by name."""
    yield "library", partial(by_library, gpu, x, scale, False)
    if linear_hopper.fits(gpu, len(x), torch.bfloat16, layer):
        yield "linear_hopper", partial(_hopper, gpu, x, scale)
    if linear_even.fits(gpu, len(x), torch.bfloat16, layer):
        yield "linear_even", partial(_even, gpu, x, scale)
    for columns, cluster in CUTS if len(x) >= ROWS else ():
        cut = make_cut(columns, cluster, bytes_per_block=gpu.shared_bytes_per_block)
        yield f"linear_tiles {columns}/{cluster}", partial(product, gpu, x, scale, False, cut)


def _hopper(gpu: Gpu, x: Tensor, scale: Tensor | None, layer: Layer) -> Tensor:
    if isinstance(layer, Dense):
        return linear_hopper.linear_dense(gpu, x, layer)
    assert scale is not None, "codes have scales"
    return linear_hopper.linear_codes(gpu, x, scale, layer, torch.bfloat16)


def _even(gpu: Gpu, x: Tensor, scale: Tensor | None, layer: Layer) -> Tensor:
    if isinstance(layer, Dense):
        return linear_even.linear_even(gpu, x, layer)
    assert scale is not None, "codes have scales"
    return linear_even.linear_even_codes(gpu, x, scale, layer, torch.bfloat16)


def attention(gpu: Gpu, asked: Asked) -> Iterator[Case]:
    """Yield the cuts of decode attention; a byte is one of keys and values."""
    for format in asked.kv:
        for num_seqs in asked.rows:
            batch = paged_batch(num_seqs=num_seqs, new=1, prefix=LENGTH - 1, page_tokens=PAGE_TOKENS)
            num_bytes = cache_bytes(num_seqs * LENGTH, format)
            pools = [cache(batch, page_tokens=PAGE_TOKENS, format=format) for _ in range(num_sets(num_bytes))]
            attend = partial(attention_decode, gpu, queries(batch), scale=DIM**-0.5, window=None)
            for shape in cuts_of(gpu, format):
                yield Case(
                    name=f"{format} B={num_seqs} {shape.warps}/{shape.stages}/{shape.blocks_per_sm}",
                    calls=[partial(attend, kv, batch.pages_BP, batch.kv_lens_B, shape=shape) for kv in pools],
                    amount=num_bytes,
                    unit="B",
                )


def steps(gpu: Gpu, asked: Asked) -> Iterator[Case]:
    """Yield whole steps of sequences that decode."""
    for name, network in _networks(asked):
        for format in asked.kv:
            for num_seqs in asked.rows:
                call = partial(decode, network, *operands(num_seqs, format))
                yield Case(name=f"{name} {format} B={num_seqs}", calls=[call], amount=num_seqs, unit="token")
                del call


def prompts(gpu: Gpu, asked: Asked) -> Iterator[Case]:
    """Yield whole steps of prompts of 2,048 tokens; a row is a token."""
    length = prefill_step.PROMPT_TOKENS
    if any(num_rows % length for num_rows in asked.rows):
        raise SystemExit(f"rows {asked.rows} of prompts: must be multiples of {length}, one prompt")
    for name, network in _networks(asked):
        for num_rows in asked.rows:
            step = prefill_step.step_of(num_rows // length)
            kv = [cache(step.attention, page_tokens=PAGE_TOKENS) for _ in range(DECODER.num_layers)]
            call = partial(decode, network, step, kv)
            yield Case(name=f"{name} M={num_rows}", calls=[call], amount=num_rows, unit="token")
            del call, kv


def _networks(asked: Asked) -> Iterator[tuple[str, Network]]:
    device = torch.device("cuda")
    for name in asked.variants:
        yield (
            name,
            random_network(MODEL, ops=VARIANTS[name](device), device=device, dtype=torch.bfloat16, seed=0),
        )
