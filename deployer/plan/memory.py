"""Where the bytes of one device go, and what is left for KV pages."""

from dataclasses import dataclass
from typing import Literal

from deployer.plan.case import Case
from deployer.plan.weight_bytes import WeightPart, bytes_of
from deployer.plan.workspace import (
    chunk_graph_rows,
    decoder_bytes,
    encoder_bytes,
    graph_bytes,
    graph_sizes,
    kernel_bytes,
    sampling_bytes,
)
from engines.errors import EngineError
from engines.memory.kept_bytes import kept_bytes
from engines.memory.kv_bytes import SHARE_OF_HOST_MEMORY, page_bytes, pages_for
from engines.memory.kv_plan import plan_kv

WEIGHTS = {
    "vision tower": "tower",
    "projector": "projector",
    "embedding": "embedding",
    "qkv": "qkv",
    "o": "o",
    "gate and up": "gate_up",
    "down": "down",
    "visual experts": "experts",
    "norms": "norms",
    "head": "head",
    "adapters": "adapters",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryRow:
    """One use of the memory of a rank."""

    group: Literal["weights", "workspace", "kv_cache"]  # as in `engines.messages.Ready.bytes_by_part`
    name: str
    num_bytes: int
    how: str  # where the figure comes from; empty where it is exact


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """The memory of one rank."""

    total_bytes: int
    rows: tuple[MemoryRow, ...]
    page_bytes: int
    num_pages: int
    page_tokens: int
    session_len: int  # tokens of the longest sequence that is taken; 0 where none is
    refusal: str | None  # why the engine would not start

    @property
    def free_bytes(self) -> int:
        """What no row claims; negative where they claim more than there is."""
        return self.total_bytes - sum(row.num_bytes for row in self.rows)

    @property
    def kv_tokens(self) -> int:
        """Tokens that all pages hold."""
        return self.num_pages * self.page_tokens

    def bytes_of(self, group: str) -> int:
        """Return the bytes of one group of rows."""
        return sum(row.num_bytes for row in self.rows if row.group == group)

    def sequences_of(self, num_tokens: int) -> int:
        """Return how many sequences of this length the pages hold at once."""
        return self.num_pages // pages_for(num_tokens, page_tokens=self.page_tokens)


def memory_of(case: Case, parts: list[WeightPart]) -> Memory:
    """Return the memory of one rank with these weights; the engine's own rule sizes the KV cache."""
    rows = [*_weight_rows(parts), *_copy_rows(case), *_workspace_rows(case)]
    kv, decoder = case.options.kv, case.spec.decoder
    total = case.hardware.memory_bytes
    if case.hardware.kind == "cpu":
        rows.append(_host_row(case, rows))
    used = sum(row.num_bytes for row in rows)
    refusal, pages, session_len = None, 0, 0
    one_page = page_bytes(
        decoder, format=kv.format, dtype_bytes=case.dtype_bytes, page_tokens=kv.page_tokens, tp=case.tp
    )
    if used >= total:
        refusal = f"weights and workspace need {used / 2**30:.1f} GiB of {total / 2**30:.1f} GiB"
    else:
        try:
            plan = plan_kv(decoder, case.options, itemsize=case.dtype_bytes, free_bytes=total - used)
            pages, session_len = plan.num_pages, plan.session_len
        except EngineError as error:
            refusal = str(error)
    rows.append(MemoryRow(group="kv_cache", name="KV pages", num_bytes=pages * one_page, how=_kv_rule(case)))
    return Memory(
        total_bytes=total,
        rows=tuple(rows),
        page_bytes=one_page,
        num_pages=pages,
        page_tokens=kv.page_tokens,
        session_len=session_len,
        refusal=refusal,
    )


def _weight_rows(parts: list[WeightPart]) -> list[MemoryRow]:
    rows = [
        MemoryRow(group="weights", name=name, num_bytes=bytes_of(parts, part), how="")
        for name, part in WEIGHTS.items()
    ]
    assert sum(row.num_bytes for row in rows) == sum(part.num_bytes for part in parts), "a part has no row"
    return [row for row in rows if row.num_bytes]


def _copy_rows(case: Case) -> list[MemoryRow]:
    size = case.second_copy.num_bytes
    return [MemoryRow(group="weights", name="copy for decode", num_bytes=size, how="")] if size else []


def _workspace_rows(case: Case) -> list[MemoryRow]:
    device = case.hardware
    phases = {
        f"derived: largest step, {case.step_tokens:,} tokens": decoder_bytes(case),
        f"derived: sampling for {case.options.scheduler.max_batch_size} sequences": sampling_bytes(case),
        "derived: one encoder pass": encoder_bytes(case),
    }
    widest = max(phases, key=lambda phase: phases[phase])
    chunks = len(chunk_graph_rows(case))
    kept = kept_bytes(case.spec, case.options, itemsize=case.dtype_bytes)
    table = [
        ("runtime", device.context_bytes, "hardware.context_bytes: before the first tensor"),
        ("communicator", (device.group_bytes or 0) if case.tp > 1 else 0, "hardware.group_bytes"),
        ("activations", phases[widest], widest),
        ("picture rows", kept.picture_rows, "derived: encoder outputs of the worst step"),
        ("picture cache", kept.picture_cache, "vision.cache_bytes"),
        ("KV as numbers", kept.plain_kv, "derived: quantized pages of one layer, while chunks attend"),
        ("penalty tables", kept.penalties, ""),
        ("kernels' sums", kernel_bytes(case), "derived: what blocks and ranks leave for each other"),
        (
            "CUDA graphs",
            graph_bytes(case),
            f"derived: {len(graph_sizes(case))} decode, {chunks} chunk graphs",
        ),
    ]
    return [
        MemoryRow(group="workspace", name=name, num_bytes=num_bytes, how=how)
        for name, num_bytes, how in table
        if num_bytes
    ]


def _host_row(case: Case, rows: list[MemoryRow]) -> MemoryRow:
    """Return what is left to everybody else on the machine.

    `engines/memory/device_memory.py` takes a share of what is free once the weights are loaded; steps live
    in the other part, so their bytes come off it.
    """
    loaded = case.hardware.context_bytes + sum(row.num_bytes for row in rows if row.group == "weights")
    others = round((case.hardware.memory_bytes - loaded) * (1 - SHARE_OF_HOST_MEMORY))
    steps = sum(row.num_bytes for row in rows) - loaded
    how = f"{1 - SHARE_OF_HOST_MEMORY:.0%} of the rest, less the steps above"
    return MemoryRow(group="workspace", name="left to others", num_bytes=max(others - steps, 0), how=how)


def _kv_rule(case: Case) -> str:
    kv = case.options.kv
    if kv.num_pages is not None:
        return f"engine.num_gpu_blocks={kv.num_pages}"
    share = f"{kv.memory:.0%} of what is left" if kv.memory < 1 else f"{kv.memory:,.0f} bytes"
    return f"engine.cache_max_entry_count: {share}"
