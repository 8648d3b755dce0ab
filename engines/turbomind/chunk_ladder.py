"""The rows of the short steps with chunks of prompts that are captured as graphs.

Torch-free: the planner counts them too.
"""

from engines.options import KvFormat
from engines.spec import DecoderSpec

# A GPU's tile of rows apart, as far as the host takes longer to launch a step than the GPU to compute it.
_ROWS = (32, *range(64, 513, 64), 640)


def chunk_ladder(spec: DecoderSpec, kv_format: KvFormat, *, max_chunk_tokens: int) -> list[int]:
    """Return the rows that `max_chunk_tokens` tokens of prompts and one more need, as far as they pay.

    None where steps differ in more than the numbers of their tensors: decoders that treat picture rows apart
    compute with their number, and chunks over quantized pages first copy all pages that a table has room for.
    """
    if spec.kind != "llama_like" or spec.plora_rank or kv_format != "none":
        return []
    smaller = [rows for rows in _ROWS if rows <= max_chunk_tokens]
    return [*smaller, *_ROWS[len(smaller) : len(smaller) + 1]]
