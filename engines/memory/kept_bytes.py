"""What an engine keeps from step to step beside weights and pages, in bytes. Arithmetic only, torch-free.

The runtime leaves room for it and the planner counts it.
"""

from dataclasses import dataclass

from engines.memory.kv_bytes import plain_bytes
from engines.options import EngineOptions
from engines.spec import ModelSpec

PENALTY_BYTES = 5  # a token of a row of `engines/sampling/penalties.py`: bool and int32


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptBytes:
    """Bytes on one rank."""

    penalties: int
    picture_rows: int  # encoder outputs of the pictures that a step needs
    picture_cache: int
    plain_kv: int  # one layer's quantized keys and values as numbers, while chunks attend to them

    @property
    def total(self) -> int:
        """All of it."""
        return self.penalties + self.picture_rows + self.picture_cache + self.plain_kv


def kept_bytes(spec: ModelSpec, options: EngineOptions, *, itemsize: int) -> KeptBytes:
    """Return what is kept; `itemsize` is that of the compute dtype.

    A step reads rows of `hidden` for at most `max_prefill_token_num` prompt tokens, and the picture that it
    ends in is encoded whole. Each row lives twice: as its picture's own, and in the pass that made it or the
    step that reads it.
    """
    limits, hidden = options.scheduler, spec.decoder.hidden
    penalties = limits.max_batch_size * spec.decoder.vocab * PENALTY_BYTES
    plain_kv = plain_bytes(
        spec.decoder,
        format=options.kv.format,
        dtype_bytes=itemsize,
        longest=limits.session_len or spec.decoder.max_positions,
        tp=options.tp,
    )
    if spec.vision is None:
        return KeptBytes(penalties=penalties, picture_rows=0, picture_cache=0, plain_kv=plain_kv)
    rows = limits.max_prefill_token_num + spec.vision.most_tokens
    return KeptBytes(
        penalties=penalties,
        picture_rows=2 * rows * hidden * itemsize,
        picture_cache=options.vision.cache_bytes,
        plain_kv=plain_kv,
    )
