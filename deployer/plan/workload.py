"""The priced request: its tokens, and how long it takes alone and among others.

time to the first token   encoder passes, then the prompt in the steps that the scheduler makes
time per token            one decode step of the batch, each sequence halfway through its answer
requests a second         1 / (encode + read + output tokens * step / batch): every phase keeps the GPU busy
"""

from dataclasses import dataclass

from deployer.plan.case import Case
from deployer.plan.decoder_work import DecoderWork
from deployer.plan.options import PlanOptions
from deployer.plan.rates import Rates
from deployer.plan.step_times import decode_time, encode_time, prefill_time
from deployer.plan.weight_bytes import WeightPart
from engines.vision.parts import ImagePlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """Tokens of the request."""

    text_tokens: int
    num_images: int
    picture: ImagePlan | None  # each of them; None for a text model
    image_tokens: int
    output_tokens: int

    @property
    def prompt_tokens(self) -> int:
        """Text and pictures."""
        return self.text_tokens + self.image_tokens

    @property
    def total_tokens(self) -> int:
        """What the sequence holds at its end."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadTimes:
    """The request at one set of rates."""

    encode_ms: float
    first_token_ms: float  # pictures included
    first_token_text_ms: float  # the same text without pictures
    token_ms: float  # alone
    batch: int  # the most such requests that run at once; 0 where none does
    batch_token_ms: float
    tokens_per_s: float  # of the whole batch
    requests_per_s: float


def workload_of(case: Case, options: PlanOptions) -> Workload:
    """Return the tokens of the request that the options describe; a text model's has no pictures."""
    vision = case.spec.vision
    if vision is None:
        images, picture, tokens = 0, None, 0
    else:
        width, height = options.image_size
        images = options.images
        picture = vision.pixels.plan(width, height, num_images=images)
        tokens = images * vision.num_tokens(picture)
    return Workload(
        text_tokens=options.prompt_tokens,
        num_images=images,
        picture=picture,
        image_tokens=tokens,
        output_tokens=options.output_tokens,
    )


def workload_times(
    case: Case, workload: Workload, parts: list[WeightPart], work: DecoderWork, rates: Rates, *, batch: int
) -> WorkloadTimes:
    """Return the times of the request alone, and with `batch` such requests at once."""
    encode_s, picture = 0.0, workload.picture
    if picture is not None:
        tiles = workload.num_images * picture.num_tiles
        encode_s = encode_time(case, parts, rates, tiles=tiles, plan=picture)
    read_s = prefill_time(case, work, rates, tokens=workload.prompt_tokens).total_s
    text_s = prefill_time(case, work, rates, tokens=workload.text_tokens).total_s
    context = workload.prompt_tokens + workload.output_tokens // 2
    alone_s = decode_time(case, work, rates, batch=1, context=context).total_s
    step_s = decode_time(case, work, rates, batch=max(batch, 1), context=context).total_s
    busy_s = encode_s + read_s + workload.output_tokens * step_s / max(batch, 1)
    return WorkloadTimes(
        encode_ms=encode_s * 1e3,
        first_token_ms=(encode_s + read_s) * 1e3,
        first_token_text_ms=text_s * 1e3,
        token_ms=alone_s * 1e3,
        batch=batch,
        batch_token_ms=step_s * 1e3,
        tokens_per_s=batch / step_s,
        requests_per_s=1 / busy_s if batch else 0.0,
    )
