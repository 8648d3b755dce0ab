"""What a plan should make people look at: settings that work, but not as one may think."""

from collections.abc import Callable, Iterator

from deployer.plan.case import Case, proven
from deployer.plan.figures import Figures
from deployer.plan.hardware import flops_per_s, supports
from deployer.plan.number_formats import math_format
from deployer.plan.start_faults import OLDEST
from engines.weights.decode_copy import FP7_ON_9_ALONE, layer_copies, most_rows
from engines.weights.in_12_bits import left_in_16_bits
from engines.weights.split import padded_vocab

Cautions = Iterator[str]


def cautions(case: Case, figures: Figures) -> list[str]:
    """Return one line for each thing to look at."""
    return [line for rule in RULES for line in rule(case, figures)]


def vocabulary_is_padded(case: Case, figures: Figures) -> Cautions:
    vocab = case.spec.decoder.vocab
    padded = padded_vocab(vocab, tp=case.tp)
    if padded != vocab:
        yield (
            f"the vocabulary has {vocab:,} rows: embedding and head are padded to {padded:,}, as matrix "
            "kernels are several times slower on odd sizes"
        )


def head_may_be_tied(case: Case, figures: Figures) -> Cautions:
    if case.spec.decoder.tied_head:
        yield (
            "config.json ties the head to the embedding: a head of its own is counted, as published "
            "checkpoints hold one; without it the plan is that much smaller"
        )


def kv_heads_are_repeated(case: Case, figures: Figures) -> Cautions:
    heads = case.spec.decoder.num_kv_heads
    if case.tp > heads:
        yield (
            f"engine.tp={case.tp} is above the {heads} KV heads: ranks store the same head "
            f"{case.tp // heads} times, so the cache of all ranks grows with them"
        )


def tower_is_on_every_rank(case: Case, figures: Figures) -> Cautions:
    if case.tp > 1 and case.spec.vision is not None:
        size = sum(row.num_bytes for row in figures.memory.rows if row.name in ("vision tower", "projector"))
        yield (
            f"every one of the {case.tp} ranks holds the vision tower and projector ({size / 2**30:.2f} GiB) "
            "and encodes all tiles: pictures gain nothing from engine.tp"
        )


def session_is_longer_than_the_cache(case: Case, figures: Figures) -> Cautions:
    memory = figures.memory
    if memory.refusal is None and memory.session_len < case.session_len:
        yield (
            f"KV pages hold {memory.kv_tokens:,} tokens, fewer than the {case.session_len:,} of a full "
            f"sequence: sequences end at {memory.session_len:,}"
        )


def weights_have_no_second_copy(case: Case, figures: Figures) -> Cautions:
    why_not = case.second_copy.why_not
    if why_not is not None and case.options.decode_weights and case.weights != "bf12":
        yield f"there is no second copy of the weights for decode: {why_not}"


def layers_stay_in_16_bits(case: Case, figures: Figures) -> Cautions:
    left = left_in_16_bits(case.spec, tp=case.tp) if case.weights == "bf12" else []
    if left:
        yield (
            f"{len(left)} linear layers of the decoder stay in 16 bits, as they are not whole tiles of 16 "
            f"outputs and 128 inputs on a rank: `{left[0]}` and the like"
        )


def fp8_layers_have_no_second_copy(case: Case, figures: Figures) -> Cautions:
    if not case.second_copy.layers or most_rows("fp7", case.capability):
        return
    if any(layer.format == "fp7" for layer in layer_copies(case.spec, case.quant, tp=case.tp).values()):
        yield f"fp8 layers have no second copy, decode reads their 8 bits: {FP7_ON_9_ALONE}"


def batch_is_never_full(case: Case, figures: Figures) -> Cautions:
    most, fit = case.options.scheduler.max_batch_size, figures.at_limit.batch
    if 0 < fit < most:
        yield (
            f"engine.max_batch_size={most}: KV pages hold {fit} requests of the priced kind "
            f"({figures.workload.total_tokens:,} tokens); more of them wait or are preempted"
        )


def session_is_beyond_the_model(case: Case, figures: Figures) -> Cautions:
    trained = case.spec.decoder.max_positions
    if case.session_len > trained:
        yield (
            f"engine.session_len={case.session_len}: the model was made for {trained:,} tokens; beyond them "
            "answers rest on engine.rope_scaling_factor"
        )


def format_has_no_units(case: Case, figures: Figures) -> Cautions:
    device = case.hardware
    if not supports(device, case.dtype):
        rate = flops_per_s(device, case.dtype, otherwise=case.dtype) / 1e12
        yield (
            f"{device.name} has no matrix units for engine.dtype={case.dtype}: planned at {rate:g} TFLOP/s; "
            "use engine.dtype=float16"
        )
    form = math_format(case.weights, case.dtype)
    if form != case.dtype and not supports(device, form):
        yield f"{device.name} has no {form} units: {case.weights} weights save memory, not operations"


def dtype_was_replaced(case: Case, figures: Figures) -> Cautions:
    if case.hardware.kind == "gpu" and case.spec.dtype == "bfloat16" and case.dtype == "float16":
        yield (
            f"the checkpoint is in bfloat16 and planned in float16, the format of {case.hardware.name}: "
            "activations beyond 65,504 overflow"
        )


def engine_is_untried(case: Case, figures: Figures) -> Cautions:
    capability, kind = case.hardware.capability, case.options.kind
    if capability is None or proven(case.hardware):
        return
    where = "compute capability " + ".".join(map(str, capability))
    if kind == "turbomind":
        yield f"engine=turbomind has not been run on {where} yet: engine=auto takes pytorch there"
    elif capability >= OLDEST:
        yield (
            f"engine=auto takes pytorch on {where}, where engine=turbomind has not been run yet; "
            "it is planned, and taken, by name"
        )


def times_are_limits(case: Case, figures: Figures) -> Cautions:
    if case.hardware.basis == "datasheet":
        yield f"{case.hardware.name} has datasheet peaks only: times are limits that no program reaches"
    elif figures.at_expected is None:
        kv = case.options.kv.format
        yield (
            f"nothing was measured with {case.weights} weights and {kv} KV on {case.hardware.name}: "
            "times are limits"
        )


RULES: tuple[Callable[[Case, Figures], Cautions], ...] = (
    vocabulary_is_padded,
    head_may_be_tied,
    kv_heads_are_repeated,
    tower_is_on_every_rank,
    session_is_longer_than_the_cache,
    weights_have_no_second_copy,
    layers_stay_in_16_bits,
    fp8_layers_have_no_second_copy,
    batch_is_never_full,
    session_is_beyond_the_model,
    format_has_no_units,
    dtype_was_replaced,
    engine_is_untried,
    times_are_limits,
)
