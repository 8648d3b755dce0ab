"""What a sequence is answered: its tokens, the scores of its prompt, its end and what it cost, or a fault."""

import logging
from collections.abc import Iterator
from secrets import token_hex

from engines.messages import Delta, Done, Failed, FinishReason, Reply, TokenLogprobs, Usage
from engines.schedule.batch_plan import Chunk
from engines.schedule.sequence import Sequence
from engines.steps.launched import TokenChoice

logger = logging.getLogger(__name__)


def delta(sequence: Sequence, token_id: int, choice: TokenChoice) -> Delta:
    """Return a token that a sequence gained."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    if choice.logprob is not None:
        logprobs = (
            TokenLogprobs(chosen=choice.logprob, top_ids=choice.top_ids, top_logprobs=choice.top_logprobs),
        )
    return Delta(request_id=sequence.request_id, token_ids=(token_id,), logprobs=logprobs)


def prompt_delta(chunk: Chunk, logprobs: tuple[TokenLogprobs, ...]) -> Iterator[Delta]:
    """Yield the scores of a prompt that are new: a sequence that was preempted computes its prompt again."""
    sequence = chunk.sequence
    new = logprobs[max(sequence.num_scored - chunk.start, 0) :]
    if chunk.is_current and new:
        sequence.num_scored += len(new)
        yield Delta(request_id=sequence.request_id, token_ids=(), logprobs=(), prompt_logprobs=new)


def done(sequence: Sequence, reason: FinishReason, stop_token_id: int | None, *, now: float) -> Done:
    """Return the end of a sequence that ran, and what it cost; `now`: on the clock of its own times."""
    admitted = now if sequence.admitted_s is None else sequence.admitted_s
    first_token = now if sequence.first_token_s is None else sequence.first_token_s
    usage = Usage(
        prompt_tokens=sequence.num_prompt_tokens,
        cached_tokens=sequence.cached_tokens,
        image_tokens=sum(image.num_tokens for image in sequence.images),
        output_tokens=sequence.num_outputs,
        queue_s=admitted - sequence.submitted_s,
        prefill_s=first_token - admitted,
        encode_s=sum(span.seconds for span in sequence.encodings),
        decode_s=now - first_token,
        num_preemptions=sequence.num_preemptions,
    )
    return Done(
        request_id=sequence.request_id, finish_reason=reason, stop_token_id=stop_token_id, usage=usage
    )


def failures(sequences: list[Sequence], what: str, error: Exception | None) -> list[Reply]:
    """Log a fault of ours under an id and answer the sequences that it ended."""
    fault_id = token_hex(4)
    names = ", ".join(one.request_id for one in sequences)
    logger.error("%s (fault %s) ended %s", what, fault_id, names, exc_info=error)
    message = f"{what}: the engine's log has the cause under fault {fault_id}"
    return [Failed(request_id=one.request_id, code="engine_error", message=message) for one in sequences]
