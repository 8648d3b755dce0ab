"""Tokens proposed by grammars: rows, masks, and how many of them a step has."""

from itertools import groupby
from typing import Any

import pytest
from proposing import REPEATS, decoding, proposing, rows
from scheduling import scheduler, step
from sequences import sequence

from engines.options import MOST_GRAMMAR_ROWS
from engines.sampling.grammar_state import MaskBytes, Walk
from engines.schedule.grammar_pace import StepPrices
from engines.schedule.sequence import Sequence


class Likely:
    """A grammar that proposes the same tokens at any place, and lets any come."""

    def __init__(self, *tokens: int) -> None:
        self.tokens = tokens
        self.asked: list[tuple[list[int], int]] = []

    mask_bytes = MaskBytes(4, 4)

    def likely_behind(self, outputs: list[int], most: int) -> Walk:
        self.asked.append((outputs, most))
        yield from ()
        return [(token, bytes([token])) for token in self.tokens[:most]]

    def follow(self, outputs: list[int]) -> None:
        pass

    def awaits_likely(self, num_outputs: int) -> bool:
        return bool(self.tokens)

    def masks_behind(self, outputs: list[int], proposed: list[int]) -> list[bytes]:
        return [b"" for _ in proposed]


GRAMMARS = {"num_tokens": 0, "grammar_tokens": 3, "max_batch_size": 80}


def formed(*tokens: int, prompt: list[int] | None = None, **how: Any) -> Sequence:
    one = sequence(prompt or [8, 9], **how)
    one.grammar = Likely(*tokens)  # type: ignore[assignment]
    return one


def test_what_a_grammar_proposes_is_a_row_each_with_the_mask_of_its_place() -> None:
    one = formed(4, 5, 6, 7)
    plan = decoding(proposing(**GRAMMARS), one, sequence([8, 9]))
    assert rows(plan) == [(2, None), (3, 4), (4, 5), (5, 6), (2, None)]
    assert [chunk.mask for chunk in plan.chunks] == [None, b"\4", b"\5", b"\6", None]
    assert one.grammar.asked == [([3], 3)]  # type: ignore[union-attr]


def test_a_grammar_goes_before_the_own_text_which_has_the_rest() -> None:
    grammars = formed(9, prompt=REPEATS), formed(prompt=REPEATS)
    plan = decoding(proposing(grammar_tokens=1, max_batch_size=80), *grammars)
    assert rows(plan) == [(7, None), (8, 9), (7, None), (8, 4), (9, 5), (10, 1)]


def test_only_proposals_from_a_text_teach_its_proposer() -> None:
    engine, one, other = (
        proposing(grammar_tokens=1, max_batch_size=80),
        formed(9, prompt=REPEATS),
        sequence(REPEATS),
    )
    plan = decoding(engine, one, other)
    engine.commit(plan, [9, 1, 4, 5, 1, 2])
    assert one.proposer is None and other.proposer is not None
    assert (engine.speculation.num_proposed, engine.speculation.num_accepted) == (4, 4)


@pytest.mark.parametrize(
    ("num", "step_us", "proposed"),
    [(2, 3000, 3), (16, 1000, 0), (16, 30_000, 3), (2, 100, 0), (40, None, 3), (64, None, 0)],
)
def test_grammars_are_asked_where_all_they_may_propose_is_worth_what_a_step_waits_for_it(
    num: int, step_us: float | None, proposed: int
) -> None:
    one = formed(*range(3))
    sequences = [one, *(sequence([8, 9]) for _ in range(num - 1))]
    room = {"max_prefill_token_num": 512, "num_pages": 256}
    engine = proposing(**GRAMMARS, **room, prices=StepPrices(step_us=step_us))
    assert decoding(engine, *sequences).num_proposed == proposed
    assert len(one.grammar.asked) == (proposed > 0)  # type: ignore[union-attr]


def test_rows_that_are_left_are_shared_and_what_one_leaves_others_take() -> None:
    few, many = [formed(4) for _ in range(2)], [formed(*range(9)) for _ in range(2)]
    how = GRAMMARS | {"grammar_tokens": 8, "max_batch_size": 12}
    plan = decoding(proposing(**how), *few, *many)
    assert [one.grammar.asked[0][1] for one in (*few, *many)] == [4] * 4  # type: ignore[union-attr]
    assert [sum(chunk.sequence is one for chunk in plan.chunks) - 1 for one in (*few, *many)] == [1, 1, 4, 2]


def test_a_step_has_no_more_rows_of_grammars_than_weights_are_read_for_at_once() -> None:
    plan = decoding(proposing(**GRAMMARS), *(formed(4, 5, 6) for _ in range(20)))
    assert len(plan.chunks) == MOST_GRAMMAR_ROWS
    plan = decoding(proposing(**GRAMMARS | {"max_batch_size": 6}), formed(4, 5, 6), formed(4, 5, 6))
    assert rows(plan) == [(2, None), (3, 4), (4, 5), (5, 6), (2, None), (3, 4)]


@pytest.mark.parametrize("how", [{"repetition_penalty": 1.1}, {"max_new_tokens": 2}])
def test_no_grammar_is_asked_for_what_may_not_be_proposed(how: dict[str, Any]) -> None:
    one = formed(4, 5, **how)
    assert decoding(proposing(**GRAMMARS), one).num_proposed == 0
    assert one.grammar.asked == []  # type: ignore[union-attr]


@pytest.mark.parametrize(("num", "waits"), [(1, True), (4, True), (40, False), (100, False)])
def test_a_step_waits_for_sequences_with_grammars_while_they_may_pay(num: int, waits: bool) -> None:
    room = {"max_prefill_token_num": 512, "num_pages": 256}
    how = GRAMMARS | {"max_batch_size": 128}  # of 100 sequences no row is left
    engine = proposing(**how, **room, prices=StepPrices(step_us=3000))
    for one in (formed(4), *(sequence([8, 9]) for _ in range(num - 1))):
        engine.add(one)
    plan = engine.schedule(0.0)
    assert plan is not None and engine.speculation.waits_for(plan) is waits
    assert not scheduler(max_batch_size=80).speculation.waits_for(plan)
    for chunk in plan.chunks:
        chunk.sequence.grammar = Likely()  # type: ignore[assignment]
    assert not engine.speculation.waits_for(plan)  # none was likely of late


def test_steps_in_which_nobody_follows_a_grammar_are_those_of_an_engine_that_proposes_nothing() -> None:
    engines = [proposing(**GRAMMARS), scheduler(max_batch_size=80)]
    for engine in engines:
        for number in range(3):
            engine.add(sequence([8, 9, 10 + number], max_new_tokens=6))
        while (plan := engine.schedule(0.0)) is not None:
            assert not engine.waits_for(plan) and not plan.num_proposed
            engine.commit(plan, [3] * len(plan.sampling))
    assert [engine.speculation.num_proposed for engine in engines] == [0, 0]


def test_grammars_that_are_mostly_wrong_are_left_alone_for_longer_and_longer() -> None:
    engine = proposing(**GRAMMARS, prices=StepPrices(step_us=1000), num_pages=256)
    one = formed(4, 5, 6, max_new_tokens=400)
    engine.add(one)
    step(engine, 3)
    asked: list[bool] = []
    for _ in range(200):
        plan = step(engine, 3)
        assert plan is not None
        asked.append(plan.num_proposed > 0)
    rests = [len(list(run)) for is_asked, run in groupby(asked) if not is_asked]
    assert rests == sorted(rests) and rests[:3] == [4, 8, 16] and sum(asked) < 20
