"""How many pages the KV cache gets, and how long a sequence may be with them. Arithmetic only, torch-free."""

from dataclasses import dataclass

from engines.errors import DeviceError, EngineError
from engines.memory.kv_bytes import page_bytes, pages_for, pages_that_fit
from engines.options import EngineOptions, KvOptions
from engines.spec import DecoderSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class KvPlan:
    """The size of one rank's KV cache."""

    num_pages: int
    page_bytes: int
    session_len: int  # tokens of the longest sequence that is taken


def plan_kv(spec: DecoderSpec, options: EngineOptions, *, itemsize: int, free_bytes: int) -> KvPlan:
    """Choose the number of pages from `free_bytes`, what is left after weights and the largest step.

    A `session_len` that was asked for is kept or refused, never lowered; without one it is what the model
    allows and the cache holds. Raises DeviceError with the numbers where one sequence does not fit,
    EngineError where the model does not go that far.
    """
    kv = options.kv
    one_page = page_bytes(
        spec, format=kv.format, dtype_bytes=itemsize, page_tokens=kv.page_tokens, tp=options.tp
    )
    longest = _longest_sequence(spec, options)
    num_pages = _num_pages(options, longest=longest, one_page=one_page, free_bytes=free_bytes)
    asked = options.scheduler.session_len
    needed = 1 if asked is None else pages_for(asked, page_tokens=kv.page_tokens)
    if num_pages < needed:
        raise DeviceError(
            f"KV cache needs {_size(needed * one_page)} for one sequence of {asked or kv.page_tokens} tokens "
            f"({needed} pages of {one_page} bytes), and it gets {_size(num_pages * one_page)} of "
            f"{_size(free_bytes)} that are free after weights and workspace: {_way_out(kv)}"
        )
    session_len = min(longest, num_pages * kv.page_tokens)
    return KvPlan(num_pages=num_pages, page_bytes=one_page, session_len=session_len)


def _way_out(kv: KvOptions) -> str:
    if kv.num_pages is not None:
        return f"lower engine.session_len, or raise engine.num_gpu_blocks={kv.num_pages} or leave it null"
    return (
        "lower engine.session_len or engine.max_prefill_token_num, or raise engine.cache_max_entry_count or "
        "engine.tp"
    )


def _longest_sequence(spec: DecoderSpec, options: EngineOptions) -> int:
    """Return the tokens of the longest sequence that model and options allow."""
    asked = options.scheduler.session_len
    most = spec.max_positions
    if spec.rope.kind in ("dynamic", "linear"):
        most = int(most * max(spec.rope.factor, 1.0))
    if asked is not None and asked > most:
        raise EngineError(
            f"engine.session_len={asked}: the model goes to {most} tokens; lower it, or set "
            "engine.rope_scaling_factor"
        )
    return asked if asked is not None else spec.max_positions


def _num_pages(options: EngineOptions, *, longest: int, one_page: int, free_bytes: int) -> int:
    kv = options.kv
    if kv.num_pages is not None:
        if kv.num_pages * one_page > free_bytes:
            raise DeviceError(
                f"engine.num_gpu_blocks={kv.num_pages}: these pages need {_size(kv.num_pages * one_page)}, "
                f"{_size(free_bytes)} are free after weights and workspace; lower it or leave it null"
            )
        return kv.num_pages
    if kv.memory >= 1 and kv.memory > free_bytes:
        raise DeviceError(
            f"engine.cache_max_entry_count={kv.memory:.0f} (bytes, {_size(int(kv.memory))}): "
            f"{_size(free_bytes)} are free after weights and workspace; lower it or give a fraction"
        )
    fitting = pages_that_fit(free_bytes, memory=kv.memory, page_bytes=one_page)
    if kv.memory >= 1:
        return fitting
    # Room for a full batch of the longest sequences is all that a fraction takes, however much is free.
    useful = options.scheduler.max_batch_size * pages_for(longest, page_tokens=kv.page_tokens)
    return min(fitting, useful)


def _size(num_bytes: int) -> str:
    mib = max(num_bytes, 0) / 2**20
    return f"{mib:.2f} MiB" if mib < 1024 else f"{mib / 1024:.2f} GiB"
