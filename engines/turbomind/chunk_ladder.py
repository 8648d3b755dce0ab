"""The rows of the steps with chunks of prompts that are captured as graphs.

Torch-free: the planner counts them too.
"""

from engines.spec import DecoderSpec

# A GPU's tile of rows apart, then about an eighth, as far as the host may take longer to launch a step than
# the GPUs to compute it: 10 to 20 ms on one, more where ranks wait for each other in every layer.
_ROWS = (32, *range(64, 641, 64), 768, 896, 1024, 1280, 1536, 2048)


def chunk_ladder(spec: DecoderSpec, *, max_tokens: int) -> list[int]:
    """Return the rows that `max_tokens` tokens of a step and one more need, as far as they pay.

    None for decoders that treat picture rows apart: they compute with their number.
    """
    if spec.kind != "llama_like" or spec.plora_rank:
        return []
    smaller = [rows for rows in _ROWS if rows <= max_tokens]
    return [*smaller, *_ROWS[len(smaller) : len(smaller) + 1]]
