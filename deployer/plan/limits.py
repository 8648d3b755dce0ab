"""How many sequences run at once and how long they may be, and which limit says so. Counts only."""

from dataclasses import dataclass
from typing import Literal

from deployer.plan.case import Case
from deployer.plan.memory import Memory

Limit = Literal["KV pages", "engine.max_batch_size", "engine.session_len", "the model"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLimit:
    """The most sequences of one length."""

    context: int
    batch: int
    limit: Limit


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextLimit:
    """The longest sequences of one number."""

    batch: int
    context: int
    limit: Limit


def largest_batch(case: Case, memory: Memory, *, context: int) -> BatchLimit:
    """Return how many sequences of this length decode at once: min(pages / pages of one, max_batch_size)."""
    if context > case.session_len:
        return BatchLimit(context=context, batch=0, limit=_length_limit(case))
    held, most = memory.sequences_of(context), case.options.scheduler.max_batch_size
    if held < most:
        return BatchLimit(context=context, batch=held, limit="KV pages")
    return BatchLimit(context=context, batch=most, limit="engine.max_batch_size")


def largest_context(case: Case, memory: Memory, *, batch: int) -> ContextLimit:
    """Return how long `batch` sequences may be: min(pages / batch * tokens of a page, longest sequence)."""
    if batch > case.options.scheduler.max_batch_size:
        return ContextLimit(batch=batch, context=0, limit="engine.max_batch_size")
    held = memory.num_pages // batch * memory.page_tokens
    if held < case.session_len:
        return ContextLimit(batch=batch, context=held, limit="KV pages")
    return ContextLimit(batch=batch, context=case.session_len, limit=_length_limit(case))


def _length_limit(case: Case) -> Limit:
    return "the model" if case.options.scheduler.session_len is None else "engine.session_len"
