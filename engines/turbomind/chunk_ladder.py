"""The rows of the steps with chunks of prompts that are captured as graphs.

Torch-free: the planner counts them too. A replayed step computes up to an eighth of its rows for nothing, so
it pays where the host takes longer to launch a step than the GPU to compute it. Both grow with the layers;
what remains is the size of one. One H200, 2026-11-26, chats of 227 + 202 tokens, 256 at once: with every step
up to 2,048 rows replayed, e4m3 weights rose from 65.5 to 89.2 requests a second, bfloat16 fell from 59.2 to
56.6.
"""

from engines.spec import ModelSpec

# A tile of rows apart, then about an eighth.
_ROWS = (32, *range(64, 641, 64), 768, 896, 1024, 1280, 1536, 2048)

# What one H200 multiplies while the host launches a layer, in operations: 0.31 ms at 700 TFLOP/s for weights
# of 16 bits; where rows or weights are quantized and dequantized beside the products, more launches, 0.5 ms,
# and for codes of 8 bits 1,200 TFLOP/s (round figures of steps of 512 and 1,024 tokens, kernels/LOG.md).
_OPERATIONS: dict[str | None, float] = {
    None: 2.2e11,
    "bf12": 3.5e11,
    "awq": 3.5e11,
    "gptq": 3.5e11,
    "fp8": 6e11,
    "int8": 6e11,
}


def chunk_ladder(spec: ModelSpec, *, tp: int, max_tokens: int) -> list[int]:
    """Return the rows that `max_tokens` tokens of a step and one more need, as far as they pay.

    None for decoders that treat picture rows apart: they compute with their number.
    """
    decoder = spec.decoder
    if decoder.kind != "llama_like" or decoder.plora_rank:
        return []
    heads = decoder.num_heads * 2 + decoder.num_kv_heads * 2
    weights = decoder.hidden * (decoder.head_dim * heads + 3 * decoder.ffn)
    format = None if spec.quantization is None else spec.quantization.format
    operations = _OPERATIONS[format]
    most = min(max_tokens, int(operations * tp / (2 * weights)))
    smaller = [rows for rows in _ROWS if rows <= most]
    return [*smaller, *_ROWS[len(smaller) : len(smaller) + 1]]
