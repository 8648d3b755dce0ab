"""Every figure of one case: memory, limits, times. Pure: the same case gives the same figures."""

from dataclasses import dataclass

from deployer.plan.case import Case
from deployer.plan.decoder_work import DecoderWork, decoder_work
from deployer.plan.limits import BatchLimit, ContextLimit, Limit, largest_batch, largest_context
from deployer.plan.memory import Memory, memory_of
from deployer.plan.options import PlanOptions
from deployer.plan.pictures import PicturePrice, picture_prices
from deployer.plan.rates import expected, limit
from deployer.plan.roofline import Bound
from deployer.plan.step_times import decode_time, encode_time, prefill_time
from deployer.plan.weight_bytes import WeightPart, weight_parts
from deployer.plan.workload import Workload, WorkloadTimes, workload_of, workload_times


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeRow:
    """One decode step."""

    batch: int
    context: int
    stopped_by: Limit | None  # what keeps so many sequences from running at once; None: nothing does
    limit_ms: float
    bound: Bound
    limit_tokens_per_s: float
    expected_ms: float | None
    expected_tokens_per_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefillRow:
    """One prompt, read alone."""

    tokens: int
    limit_ms: float
    bound: Bound
    limit_tokens_per_s: float
    expected_ms: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What the plan says about a case."""

    memory: Memory
    batches: list[BatchLimit]
    contexts: list[ContextLimit]
    tile_ms: float | None  # of the largest picture, in a full pass, at the limit; None for a text model
    decode: list[DecodeRow]
    prefill: list[PrefillRow]
    workload: Workload
    at_limit: WorkloadTimes
    at_expected: WorkloadTimes | None  # None where nothing was measured on this device
    pictures: list[PicturePrice]


def figures_of(case: Case, options: PlanOptions) -> Figures:
    """Compute every figure. Raises CheckpointError where tp cannot divide the model."""
    parts = weight_parts(case)
    work = decoder_work(case, parts)
    memory = memory_of(case, parts)
    workload = workload_of(case, options)
    batch = largest_batch(case, memory, context=workload.total_tokens).batch
    rates, hoped = limit(case), expected(case)
    return Figures(
        memory=memory,
        batches=[largest_batch(case, memory, context=context) for context in options.contexts],
        contexts=[largest_context(case, memory, batch=batch) for batch in options.batches],
        tile_ms=_tile_ms(case, parts),
        decode=decode_rows(case, work, memory, options),
        prefill=prefill_rows(case, work, options),
        workload=workload,
        at_limit=workload_times(case, workload, parts, work, rates, batch=batch),
        at_expected=workload_times(case, workload, parts, work, hoped, batch=batch) if hoped else None,
        pictures=picture_prices(case, options.pictures, parts, work, rates),
    )


def decode_rows(case: Case, work: DecoderWork, memory: Memory, options: PlanOptions) -> list[DecodeRow]:
    """Return one row a batch and context, batch by batch."""
    rates, hoped = limit(case), expected(case)
    rows = []
    for batch in options.batches:
        for context in options.contexts:
            most = largest_batch(case, memory, context=context)
            time = decode_time(case, work, rates, batch=batch, context=context)
            real_s = decode_time(case, work, hoped, batch=batch, context=context).total_s if hoped else None
            rows.append(
                DecodeRow(
                    batch=batch,
                    context=context,
                    stopped_by=None if batch <= most.batch else most.limit,
                    limit_ms=time.total_s * 1e3,
                    bound=time.bound,
                    limit_tokens_per_s=batch / time.total_s,
                    expected_ms=real_s * 1e3 if real_s else None,
                    expected_tokens_per_s=batch / real_s if real_s else None,
                )
            )
    return rows


def prefill_rows(case: Case, work: DecoderWork, options: PlanOptions) -> list[PrefillRow]:
    """Return one row for 1,024 tokens and for each context that a session takes."""
    rates, hoped = limit(case), expected(case)
    rows = []
    for tokens in sorted({1024, *options.contexts}):
        if tokens > case.session_len:
            continue
        time = prefill_time(case, work, rates, tokens=tokens)
        real_s = prefill_time(case, work, hoped, tokens=tokens).total_s if hoped else None
        rows.append(
            PrefillRow(
                tokens=tokens,
                limit_ms=time.total_s * 1e3,
                bound=time.bound,
                limit_tokens_per_s=tokens / time.total_s,
                expected_ms=real_s * 1e3 if real_s else None,
            )
        )
    return rows


def _tile_ms(case: Case, parts: list[WeightPart]) -> float | None:
    vision = case.spec.vision
    if vision is None:
        return None
    tiles = case.options.vision.max_batch_size
    return encode_time(case, parts, limit(case), tiles=tiles, plan=vision.pixels.largest()) / tiles * 1e3
