"""From a `Submit` to a `Sequence`: what could crash a step or never end is refused here, alone."""

from itertools import pairwise
from math import isfinite

from engines.decoder.positions import prompt_positions
from engines.errors import RequestError
from engines.ipc.take_pixels import take_pixels
from engines.memory.prefix_cache import KEY_BYTES, root_key
from engines.messages import ImageInput, Sampling, Submit
from engines.sampling.grammar import Grammars
from engines.schedule.sequence import ImageSlots, Sequence
from engines.spec import ModelSpec, VisionSpec
from engines.vision.parts import ImagePixels


def take_sequence(
    request: Submit,
    spec: ModelSpec,
    grammars: Grammars,
    *,
    session_len: int,
    arrival: int,
    now_s: float,
) -> Sequence:
    """Check a request and read its pixels; raises RequestError with the code for the client."""
    _check_prompt(request, vocab=spec.decoder.vocab, session_len=session_len)
    _check_sampling(request.sampling, vocab=spec.decoder.vocab)
    grammar = None if request.sampling.grammar is None else grammars.open(request.sampling.grammar)
    adapter = _adapter(request, spec)
    num_prompt_tokens = len(request.token_ids)
    images = _take_images(request, spec.vision)
    positions, offset = prompt_positions(spec.decoder.positions, num_prompt_tokens, images)
    return Sequence(
        request_id=request.request_id,
        token_ids=list(request.token_ids),
        num_prompt_tokens=num_prompt_tokens,
        images=images,
        sampling=request.sampling,
        max_tokens=min(num_prompt_tokens + max(request.sampling.max_new_tokens, 1), session_len),
        priority=request.priority,
        service_class=request.service_class,
        arrival=arrival,
        root_key=root_key(spec.decoder.rope.regime(num_prompt_tokens), adapter=request.adapter),
        adapter=adapter,
        submitted_s=now_s,
        positions=positions,
        position_offset=offset,
        grammar=grammar,
    )


def _adapter(request: Submit, spec: ModelSpec) -> int | None:
    """Return the number of the adapter that a request asks for."""
    if request.adapter is None:
        return None
    names = [adapter.name for adapter in spec.adapters]
    if request.adapter not in names:
        raise RequestError(f"adapter `{request.adapter}` is not loaded; there are {sorted(names)}")
    return names.index(request.adapter)


def _check_prompt(request: Submit, *, vocab: int, session_len: int) -> None:
    tokens = request.token_ids
    if not tokens:
        raise RequestError("a prompt without tokens: at least one is needed")
    if len(tokens) >= session_len:
        raise RequestError(
            f"prompt of {len(tokens)} tokens: the context holds {session_len}, the answer included",
            code="context_length_exceeded",
        )
    _check_ids("the prompt", tokens, vocab)


def _check_ids(what: str, ids: tuple[int, ...], vocab: int) -> None:
    wrong = sorted({token for token in ids if not 0 <= token < vocab})
    if wrong:
        raise RequestError(
            f"{what} holds the token ids {wrong[:5]}: the vocabulary goes from 0 to {vocab - 1}"
        )


def _check_sampling(how: Sampling, *, vocab: int) -> None:
    rules: tuple[tuple[str, object, bool, str], ...] = (
        ("max_new_tokens", how.max_new_tokens, how.max_new_tokens >= 0, "0 or more"),
        ("temperature", how.temperature, 0 <= how.temperature < float("inf"), "0 or more"),
        ("top_k", how.top_k, how.top_k >= 0, "0 or more"),
        ("top_p", how.top_p, 0 <= how.top_p <= 1, "from 0 to 1"),
        ("min_p", how.min_p, 0 <= how.min_p <= 1, "from 0 to 1"),
        ("repetition_penalty", how.repetition_penalty, 0 < how.repetition_penalty < float("inf"), "above 0"),
        ("presence_penalty", how.presence_penalty, isfinite(how.presence_penalty), "a finite number"),
        ("frequency_penalty", how.frequency_penalty, isfinite(how.frequency_penalty), "a finite number"),
        ("logprobs", how.logprobs, how.logprobs is None or 0 <= how.logprobs <= vocab, f"from 0 to {vocab}"),
        ("prompt_logprobs", asked := how.prompt_logprobs, 0 <= (asked or 0) <= vocab, f"from 0 to {vocab}"),
        ("logit_bias", how.logit_bias, all(map(isfinite, how.logit_bias.values())), "finite numbers"),
        ("bad_sequences", how.bad_sequences, all(how.bad_sequences), "sequences of at least one token"),
    )
    if how.grammar is not None:  # each of these could leave a row without any token that may come
        rules += (
            ("ignore_eos", how.ignore_eos, not how.ignore_eos, "false with a grammar"),
            ("min_new_tokens", how.min_new_tokens, how.min_new_tokens == 0, "0 with a grammar"),
            ("bad_sequences", how.bad_sequences, not how.bad_sequences, "empty with a grammar"),
        )
    faults = [f"{name}={value}: must be {rule}" for name, value, holds, rule in rules if not holds]
    if faults:
        raise RequestError("; ".join(faults))
    _check_ids("logit_bias", tuple(how.logit_bias), vocab)


def _take_images(request: Submit, spec: VisionSpec | None) -> tuple[ImageSlots, ...]:
    images = sorted(request.images, key=lambda image: image.start)
    if images and spec is None:
        raise RequestError("the prompt has images, and the model takes text only")
    for before, after in pairwise(images):
        if before.start + before.num_tokens > after.start:
            raise RequestError(f"images at tokens {before.start} and {after.start} overlap")
    return tuple(
        _take_image(image, spec, num_prompt=len(request.token_ids)) for image in images if spec is not None
    )


def _take_image(image: ImageInput, spec: VisionSpec, *, num_prompt: int) -> ImageSlots:
    end = image.start + image.num_tokens
    if image.start < 0 or end > num_prompt:
        raise RequestError(f"image at tokens [{image.start}, {end}) lies outside the prompt of {num_prompt}")
    _check_pixels(image, spec)
    segments = spec.assembly.segments(image.plan)
    num_rows = sum(part for part in segments if isinstance(part, int))
    ends = [0, *(offset + count for offset, count in image.rows)]
    in_order = all(before <= offset for before, (offset, _) in zip(ends, image.rows, strict=False))
    if not in_order or ends[-1] > image.num_tokens or sum(count for _, count in image.rows) != num_rows:
        raise RequestError(
            f"image at token {image.start} has rows {image.rows} in {image.num_tokens} tokens: must be "
            f"{num_rows} rows in order"
        )
    if len(image.key) != KEY_BYTES:
        raise RequestError(f"image at token {image.start}: it needs a key of {KEY_BYTES} bytes")
    arrays = tuple(take_pixels(ref) for ref in image.pixels)
    return ImageSlots(
        key=image.key,
        start=image.start,
        num_tokens=image.num_tokens,
        pixels=ImagePixels(arrays=arrays, plan=image.plan, shared=image.shared, is_cut=image.is_cut),
        rows=image.rows,
    )


def _check_pixels(image: ImageInput, spec: VisionSpec) -> None:
    shapes, plan = tuple(ref.shape for ref in image.pixels), image.plan
    expected = spec.pixels.shapes(plan) if image.is_cut else ((plan.height, plan.width, 4),)
    if shapes != expected or plan.num_tiles < 1:
        raise RequestError(
            f"image at token {image.start} has pixels {shapes}: its plan of {plan.num_tiles} tiles "
            f"needs {expected}"
        )
    if not image.is_cut and not spec.pixels.cuts(plan):
        raise RequestError(
            f"image at token {image.start} is not cut: pixels of kind `{spec.pixels.kind}` come as tiles"
        )
