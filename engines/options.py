"""How one engine runs: the frozen options that the config tree builds and every rank receives. Torch-free.

Each field stands in `conf/engine/*.yaml` (or `conf/quantization/*.yaml`, `conf/vision/*.yaml`) with its unit
and a comment; no default lives here. Names are LMDeploy's where LMDeploy has one.
"""

from dataclasses import dataclass
from typing import Literal

EngineKind = Literal["turbomind", "pytorch", "auto"]
DeviceType = Literal["cuda", "cpu", "npu", "auto"]
ComputeDtype = Literal["auto", "float32", "bfloat16", "float16"]
LoadFormat = Literal["checkpoint", "random"]
KvFormat = Literal["none", "bf12", "fp8", "int8", "int4"]

MOST_GRAMMAR_ROWS = (
    64  # of a step with tokens that grammars propose: what weights are read for at hardly more cost
)


@dataclass(frozen=True, kw_only=True, slots=True)
class KvOptions:
    """How one rank stores keys and values."""

    format: KvFormat  # none: the compute dtype
    page_tokens: int  # tokens a page holds; a power of two (engine.cache_block_seq_len)
    num_pages: int | None  # None: derived from memory (engine.num_gpu_blocks)
    memory: float  # fraction of free bytes after weights and workspace (0 < f < 1), or absolute bytes (>= 1)
    prefix_caching: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceClass:
    """One class of requests (server.qos)."""

    name: str
    priority: int  # lower goes first where nobody is owed anything
    share: float  # of slots and prompt tokens, what it is owed while it waits; all together at most 1


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeculationOptions:
    """Tokens proposed to sequences, which the model checks (engine.speculative_*)."""

    num_tokens: int  # proposed to a sequence in a step at most from its own text; 0: none
    match_tokens: int  # last tokens that must have stood in the sequence before
    max_sequences: int  # a step in which more decode has no proposals from their text
    grammar_tokens: int  # proposed to a sequence in a step at most from its grammar; 0: none

    def most_rows(self, max_batch_size: int) -> int:
        """Return the most rows of a step with proposals."""
        from_text = self.max_sequences * (1 + self.num_tokens) if self.num_tokens else 0
        from_grammars = MOST_GRAMMAR_ROWS if self.grammar_tokens else 0
        return min(max_batch_size, max(from_text, from_grammars))


@dataclass(frozen=True, kw_only=True, slots=True)
class SchedulerOptions:
    """What one step may hold."""

    max_batch_size: int  # sequences that run at once
    max_prefill_token_num: int  # prompt tokens of one step at most
    num_tokens_per_iter: int | None  # tokens of a step, decode included; None: prefill limit + batch size
    max_prefill_iters: int  # steps over which the waiting prompt tokens may be spread at most
    tiles_per_iter: int | None  # tiles that a step encodes beside decodes; None: all that its prompts bring
    session_len: int | None  # prompt + output tokens of a sequence; None: what the model allows
    classes: tuple[ServiceClass, ...]  # empty: all requests are equal
    speculation: SpeculationOptions | None  # None: a token a sequence and step


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionOptions:
    """How the vision tower runs inside the engine."""

    max_batch_size: int  # tiles in one encoder pass
    cache_bytes: int  # encoder outputs kept by image content, bytes; 0 keeps none beyond their request
    uncut_pixels: int  # of the largest picture that comes whole and is cut by the engine; 0: all come cut


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """One engine on one host."""

    kind: EngineKind
    device: DeviceType
    dtype: ComputeDtype
    tp: int
    decode_weights: float  # share of a GPU's memory for a second copy of the weights in fewer bits; 0: none
    load_format: LoadFormat  # random: seeded weights of the model's shapes, no files are read
    kv: KvOptions
    scheduler: SchedulerOptions
    vision: VisionOptions
    rope_scaling_factor: float | None  # None: the checkpoint's own; >= 1: dynamic NTK with this factor
    use_logn_attn: bool | None  # scale queries beyond the trained length; None: the checkpoint's own
    step_timeout_s: float  # a step that takes longer counts as stuck; the front end restarts the engine
