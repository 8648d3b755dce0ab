"""Grammars that walk ahead together propose what they propose one after the other."""

import llguidance
import pytest
from printable import PRINTABLE, ids_of
from sequences import sequence

from engines.sampling import masks_at_once
from engines.sampling.grammar import Grammars
from engines.schedule.likely_behind import LikelyBehind, Proposed
from engines.schedule.sequence import Sequence

PATTERN = llguidance.grammar_from("regex", "(total: [0-9];[ ]{0,2}tax: [0-9];)+")
TEXTS = [
    "total: 1; tax: 2;total: 3; tax: 4;",
    "total: 5;  tax: 6;total: 7;  t",
    "total: 8;tax: 9;total: 1;tax",
]


def formed(num: int) -> list[Sequence]:
    grammars = Grammars(PRINTABLE, vocab=100, proposes=True)
    found = [sequence([1, 2], max_new_tokens=200) for _ in range(num)]
    for one in found:
        one.grammar = grammars.open(PATTERN)
    return found


def proposed(num: int) -> list[list[Proposed]]:
    """What is proposed as the texts are written by so many sequences, a token a step."""
    ask, sequences, found = LikelyBehind(), formed(num), []
    for place in range(28):
        found.append(ask.ask(sequences, 6))
        for number, one in enumerate(sequences):
            one.token_ids.append(ids_of(TEXTS[number % len(TEXTS)])[place])
    return found


def test_together_they_propose_what_each_does_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    together = proposed(6)
    monkeypatch.setattr(masks_at_once, "FEW", 99)
    assert proposed(6) == together
    assert sum(len(tokens) for step in together for tokens in step) > 100


def test_no_more_is_proposed_than_an_answer_holds() -> None:
    one, other = formed(2)
    one.max_tokens = 2 + 3
    found = LikelyBehind().ask([one, other], 6)
    assert [len(tokens) for tokens in found] == [2, 6]
