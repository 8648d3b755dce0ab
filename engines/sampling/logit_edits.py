"""How single logits of a row are changed before its token is chosen, and which of them may come at all.

A row of a sequence that has ended meanwhile is left alone, as nobody reads its token.
"""

from collections.abc import Iterator
from math import inf

from engines.schedule.batch_plan import Chunk


def edits_of(chunk: Chunk, vocab: int) -> dict[int, float]:
    """Return what is added to each logit that is not left alone: biases, and -inf for what must not come."""
    if not (chunk.sequence.edits_logits and chunk.is_current):
        return {}
    edits = dict(chunk.sequence.sampling.logit_bias)
    for token in (*_too_early(chunk), *_completes_bad_sequence(chunk)):
        if token < vocab:  # else it never comes
            edits[token] = -inf
    return edits


def mask_of(chunk: Chunk) -> bytes | None:
    """Return one bit an id of what its grammar lets come next, lowest first; None where it has none.

    Every token of the sequence up to the chunk's end must be known here.
    """
    sequence = chunk.sequence
    if sequence.grammar is None or not chunk.is_current:
        return None
    assert len(sequence.token_ids) >= chunk.end or chunk.mask, "its last token is not known here"
    return chunk.mask or sequence.grammar.mask(sequence.token_ids[sequence.num_prompt_tokens :])


def _too_early(chunk: Chunk) -> tuple[int, ...]:
    """Return the tokens that would end a sequence before `min_new_tokens`."""
    how = chunk.sequence.sampling
    if chunk.num_outputs >= how.min_new_tokens:
        return ()
    return how.stop_token_ids if how.ignore_eos else (*how.stop_token_ids, *how.eos_token_ids)


def _completes_bad_sequence(chunk: Chunk) -> Iterator[int]:
    """Yield the last token of each bad sequence whose other tokens end the output."""
    sequence = chunk.sequence
    tokens, first_output = sequence.token_ids, sequence.num_prompt_tokens
    for *before, last in sequence.sampling.bad_sequences:
        assert not before or len(tokens) >= chunk.end, "its last token is not known here"
        start = len(tokens) - len(before)
        if not before or (start >= first_output and tokens[start:] == before):
            yield last
