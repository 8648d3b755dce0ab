"""Cases of what makes codes of rows, and numbers of packed weights and of coded pages."""

from collections.abc import Iterator
from functools import partial

import torch

from engines.ops import Bf12, Int4
from engines.pytorch.linear import quantize_rows_fp8
from engines.quant.bf12_shape import bf12_bytes
from engines.quant.bf12_tiles import bf12_of, weight_of
from engines.quant.int4_tiles import dequantize
from engines.turbomind.bench.attention_cases import DIM, cache, cache_bytes, paged_batch
from engines.turbomind.bench.elementwise import EPS, FFN, HIDDEN, TOKENS
from engines.turbomind.bench.layers import LINEARS
from engines.turbomind.bench.linear_operands import make_layer, num_bytes
from engines.turbomind.bench.table import Row
from engines.turbomind.bench.timing import num_sets, random, time_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.dequantize_bf12 import dequantize_bf12
from engines.turbomind.ops.dequantize_int4 import dequantize_int4
from engines.turbomind.ops.dequantize_pages import dequantize_pages
from engines.turbomind.ops.quantize_rows import add_rms_norm_codes, quantize_rows, silu_mul_codes

E4M3 = torch.float8_e4m3fn


def codes(gpu: Gpu) -> Iterator[Row]:
    """Yield rows that become e4m3 codes alone, in a norm and in a gate."""
    weight = random(HIDDEN)
    for tokens in TOKENS:
        size = tokens * HIDDEN
        x = [(random(tokens, HIDDEN), random(tokens, HIDDEN)) for _ in range(num_sets(6 * size))]
        yield Row(
            op="quantize_rows",
            shape=f"T={tokens} H={HIDDEN}",
            us=time_us([partial(quantize_rows, gpu, a, E4M3) for a, _ in x]),
            num_bytes=3 * size,
            torch_us=time_us([partial(quantize_rows_fp8, a) for a, _ in x]),
        )
        yield Row(
            op="add_rms_norm_codes",
            shape=f"T={tokens} H={HIDDEN}",
            us=time_us([partial(add_rms_norm_codes, gpu, a, b, weight, EPS, E4M3) for a, b in x]),
            num_bytes=7 * size,
        )
        gates = [random(tokens, 2 * FFN) for _ in range(num_sets(5 * tokens * FFN))]
        yield Row(
            op="silu_mul_codes",
            shape=f"T={tokens} F={FFN}",
            us=time_us([partial(silu_mul_codes, gpu, gate, E4M3) for gate in gates]),
            num_bytes=5 * tokens * FFN,
        )


def unpacked(gpu: Gpu) -> Iterator[Row]:
    """Yield layers in 12 and 4 bits and pages of int8 that become numbers of bf16."""
    for name in ("qkv", "gate_up"):
        outputs, inputs = LINEARS[name]
        shape, written = f"{name} {outputs}x{inputs}", 2 * outputs * inputs
        packed = [_packed(outputs, inputs) for _ in range(num_sets(written))]
        yield Row(
            op="dequantize_bf12",
            shape=shape,
            us=time_us([partial(dequantize_bf12, gpu, one) for one in packed]),
            num_bytes=bf12_bytes(outputs, inputs) + written,
            torch_us=time_us([partial(weight_of, one) for one in packed[:2]], replays=3),
        )
        nibbles = [_nibbles(outputs, inputs) for _ in range(num_sets(written))]
        yield Row(
            op="dequantize_int4",
            shape=shape,
            us=time_us([partial(dequantize_int4, gpu, one, torch.bfloat16) for one in nibbles]),
            num_bytes=num_bytes("nibble", outputs, inputs) + written,
            torch_us=time_us([partial(dequantize, one, torch.bfloat16) for one in nibbles[:2]], replays=3),
        )
    yield _pages(gpu, num_seqs=8, length=4096, page_tokens=64)


def _pages(gpu: Gpu, *, num_seqs: int, length: int, page_tokens: int) -> Row:
    batch = paged_batch(num_seqs=num_seqs, new=length, prefix=0, page_tokens=page_tokens)
    layers = [cache(batch, page_tokens=page_tokens, format="int8") for _ in range(4)]
    pages_BP, kv_lens_B, dtype = batch.pages_BP, batch.kv_lens_B, torch.bfloat16
    call = partial(dequantize_pages, gpu, room=pages_BP.numel(), dim=DIM, dtype=dtype)
    calls = [partial(call, layer, pages_BP, kv_lens_B) for layer in layers]
    tokens = num_seqs * length
    return Row(
        op="dequantize_pages",
        shape=f"int8, {num_seqs} x {length} tokens",
        us=time_us(calls),
        num_bytes=cache_bytes(tokens, "int8") + cache_bytes(tokens, "none"),
    )


def _packed(outputs: int, inputs: int) -> Bf12:
    packed = bf12_of(random(outputs, inputs))
    assert packed is not None, "normal numbers have a form in 12 bits"
    return packed


def _nibbles(outputs: int, inputs: int) -> Int4:
    layer = make_layer("nibble", outputs, inputs)
    assert isinstance(layer, Int4), "nibbles are codes of 4 bits"
    return layer
