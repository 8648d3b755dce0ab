"""Masks that are made at once are those that are made one by one."""

from collections.abc import Sequence as Seq

import llguidance
import numpy as np
import pytest
from msgspec.structs import replace
from printable import END_ID, PRINTABLE, SIZE, ids_of
from sequences import sequence

from engines.sampling.grammar import Grammars
from engines.sampling.masks_at_once import FEW, MasksAtOnce
from engines.schedule.batch_plan import Chunk


# Tokens that fill whole words of a mask, and some more; logits of ids that no token has.
@pytest.fixture(params=[(96, 96), (97, 97), (97, 170)])
def grammars(request: pytest.FixtureRequest) -> Grammars:
    num_tokens, vocab = request.param
    more = tuple(b"%d." % number for number in range(100, 100 + num_tokens - SIZE))
    vocabulary = replace(PRINTABLE, tokens=(*PRINTABLE.tokens, *more))
    return Grammars(vocabulary, vocab=vocab)


def chunk(grammars: Grammars, pattern: str, said: str) -> Chunk:
    one = sequence([1, 2, 3], max_new_tokens=90)
    one.grammar = grammars.open(llguidance.grammar_from("regex", pattern))
    one.token_ids += ids_of(said)
    one.num_computed = len(one.token_ids) - 1
    return Chunk.of(one, 1)


def known(chunks: Seq[Chunk]) -> list[bytes | None]:
    return [one.sequence.grammar._next_bits for one in chunks]  # type: ignore[union-attr]


def asked(chunks: Seq[Chunk]) -> list[bytes]:
    """Return the mask of each behind its answer."""
    return [one.sequence.grammar.mask(one.sequence.token_ids[3:]) for one in chunks]  # type: ignore[union-attr]


SAID = [("a[bc]+d", "a"), ("a[bc]+d", "abc"), ("[0-9]{2,4}", "12"), ("[0-9]{2,4}", ""), ("yes|no", "yes")]


def test_they_are_those_of_one_by_one_and_found_where_they_are_asked_for(grammars: Grammars) -> None:
    chunks = [chunk(grammars, *how) for how in SAID]
    MasksAtOnce().make(chunks)
    found = known(chunks)
    assert found == asked([chunk(grammars, *how) for how in SAID]) == asked(chunks)
    assert found[-1] is not None
    bits = np.unpackbits(np.frombuffer(found[-1], np.uint8), bitorder="little")
    assert np.flatnonzero(bits).tolist() == [END_ID]


def test_a_few_are_left_to_who_asks(grammars: Grammars) -> None:
    chunks = [chunk(grammars, *how) for how in SAID[: FEW - 1]]
    MasksAtOnce().make(chunks)
    assert known(chunks) == [None] * len(chunks)


def test_tokens_with_masks_and_sequences_that_ended_or_follow_no_grammar_are_passed_over(
    grammars: Grammars,
) -> None:
    proposed, ended, *others = (chunk(grammars, *SAID[0]) for _ in range(2 + FEW))
    ended.sequence.has_ended = True
    free = Chunk.of(sequence([1, 2, 3]), 1)
    MasksAtOnce().make([proposed._replace(proposed=4, mask=b"\1"), ended, free, *others])
    assert known([proposed, ended]) == [None, None]
    assert all(known(others))


def test_a_grammar_that_cannot_go_on_says_so_where_its_mask_is_asked_for(grammars: Grammars) -> None:
    stuck, other, astray = (
        chunk(grammars, "a{70}ä", "a" * 70),
        chunk(grammars, *SAID[0]),
        chunk(grammars, "yes|no", "x"),
    )
    MasksAtOnce().make([stuck, other, astray])
    assert known([stuck, astray]) == [None, None]
    asked([stuck, other, astray])
    faults = [one.sequence.grammar.fault for one in (stuck, other, astray)]  # type: ignore[union-attr]
    assert faults[1] is None
    assert faults[0] is not None and "no token of the vocabulary can come next" in faults[0]
    assert faults[2] is not None and "cannot be followed" in faults[2]
