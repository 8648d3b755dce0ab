"""Grammars: which tokens may come, and what happens where none can."""

import json
import logging

import llguidance
import numpy as np
import pytest
from printable import END_ID, PRINTABLE, SIZE, ids_of, text_of

from engines.errors import RequestError
from engines.messages import Vocabulary
from engines.sampling.grammar import KEPT, Grammars
from engines.sampling.grammar_state import GrammarState

VOCAB = 100  # some rows more than the vocabulary has ids


def regex(pattern: str) -> GrammarState:
    return Grammars(PRINTABLE, vocab=VOCAB).open(llguidance.grammar_from("regex", pattern))


def allowed(state: GrammarState, text: str) -> str:
    """Return the characters that may follow, `$` for the end."""
    bits = np.unpackbits(np.frombuffer(state.mask(ids_of(text)), np.uint8), bitorder="little")
    assert len(bits) == 128  # whole words for 100 ids
    found = np.flatnonzero(bits).tolist()
    assert all(token_id < SIZE for token_id in found), "an id that the vocabulary does not have"
    return text_of(found) + "$" * (END_ID in found)


def test_the_mask_follows_the_output() -> None:
    state = regex("a[bc]+")
    assert [allowed(state, text) for text in ("", "a", "ab", "abc")] == ["a", "bc", "bc$", "bc$"]


def test_several_tokens_may_come_between_two_masks() -> None:
    assert allowed(regex("abcd"), "abc") == "d"


def test_what_is_no_longer_there_is_taken_back() -> None:
    state = regex("a(bc|d)e")
    assert allowed(state, "ab") == "c"
    assert allowed(state, "a") == "bd"
    assert allowed(state, "ad") == "e"


def test_masks_behind_proposed_tokens_are_those_of_their_own_time_and_leave_no_trace() -> None:
    state, later = regex("a(bc|d)e*"), regex("a(bc|d)e*")
    masks = state.masks_behind(ids_of("a"), ids_of("bce"))
    assert masks == [later.mask(ids_of(text)) for text in ("ab", "abc", "abce")]
    assert allowed(state, "a") == "bd"
    assert allowed(state, "ad") == "e$"


@pytest.mark.parametrize(("proposed", "taken"), [("bcx", 2), ("x", 0), ("", 0)])
def test_proposed_tokens_count_up_to_the_first_that_may_not_come(proposed: str, taken: int) -> None:
    state = regex("a(bc|d)e*")
    assert len(state.masks_behind(ids_of("a"), ids_of(proposed))) == taken
    assert state.fault is None and allowed(state, "a") == "bd"


def test_no_end_is_proposed_and_nothing_behind_a_grammar_that_was_left() -> None:
    state = regex("ab?")
    assert state.masks_behind(ids_of("a"), [END_ID]) == []
    assert len(state.masks_behind(ids_of("a"), [*ids_of("b"), END_ID])) == 1
    left = regex("ab")
    assert left.masks_behind(ids_of("x"), ids_of("b")) == [] and left.fault is not None


def test_a_complete_answer_can_only_end() -> None:
    assert allowed(regex("ab"), "ab") == "$"


def test_a_grammar_that_is_left_can_only_end_and_says_why() -> None:
    state = regex("ab")
    assert allowed(state, "x") == "$"
    assert state.fault is not None and "cannot be followed after 1 tokens" in state.fault


def test_a_text_that_the_vocabulary_cannot_write_can_only_end_and_says_why() -> None:
    state = regex("a{70}ä")
    assert allowed(state, "a" * 70) == "$"
    assert state.fault is not None and "no token of the vocabulary can come next" in state.fault
    with pytest.raises(RequestError, match="cannot be followed after 1 tokens"):
        regex("aä")


def test_what_does_not_compile_is_refused() -> None:
    with pytest.raises(RequestError, match="does not compile"):
        Grammars(PRINTABLE, vocab=VOCAB).open("start: /(a/")


def test_the_trie_is_made_once_and_a_grammar_that_comes_first_says_what_it_costs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "engines.sampling.grammar")

    def lines(*, rests: bool, beside_others: bool) -> list[str]:
        caplog.clear()
        grammars = Grammars(PRINTABLE, vocab=VOCAB)
        for _ in range(2):
            if rests:
                grammars.begin()
            grammars.compile('start: "a"', beside_others=beside_others)
            grammars.open('start: "a"')
        assert "ready for grammars: that took" in caplog.text
        return [record.levelname for record in caplog.records]

    assert lines(rests=True, beside_others=True) == ["DEBUG"], "nobody waited"
    assert lines(rests=False, beside_others=False) == ["INFO"], "its own request waited"
    assert lines(rests=False, beside_others=True) == ["WARNING", "INFO"]
    assert "before the engine had rested: all sequences wait" in caplog.text


def test_without_a_vocabulary_there_are_no_grammars() -> None:
    with pytest.raises(RequestError, match="started without a vocabulary"):
        Grammars(None, vocab=VOCAB).open('start: "a"')


def test_a_control_token_is_no_text() -> None:
    vocabulary = Vocabulary(tokens=(b"a", b"<b>", b"<", b"b", b">"), special_ids=(1,), end_ids=(1,))
    state = Grammars(vocabulary, vocab=5).open('start: "a<b>"')
    bits = np.unpackbits(np.frombuffer(state.mask([0]), np.uint8), bitorder="little")
    assert np.flatnonzero(bits).tolist() == [2]


SPELLINGS = (b"to", b"tot", b"total", b'total"', b'total":', b"otal", b'"to', b'{"')
TOTAL = {
    "type": "object", "properties": {"total": {"type": "null"}}, "required": ["total"],
    "additionalProperties": False,
}  # fmt: skip


@pytest.mark.parametrize(
    "grammar",
    [
        llguidance.grammar_from("regex", r'\{"total": null\}'),
        'start: "{" KEY ": null}"\nKEY: "\\"total\\""',
        llguidance.LLMatcher.grammar_from_json_schema(json.dumps(TOTAL)),
        f'start: "[" %json {json.dumps(TOTAL)} "]"',
    ],
)
def test_text_that_must_come_may_be_spelled_in_any_way(grammar: str) -> None:
    tokens = (*PRINTABLE.tokens, *SPELLINGS)
    vocabulary = Vocabulary(tokens=tokens, special_ids=PRINTABLE.special_ids, end_ids=PRINTABLE.end_ids)
    state = Grammars(vocabulary, vocab=VOCAB).open(grammar)
    begun = ids_of("[" if '"["' in grammar else "")

    def may_follow(*texts: bytes) -> set[bytes]:
        mask = state.mask([*begun, *(tokens.index(text) for text in texts)])
        bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")
        return {tokens[place] for place in np.flatnonzero(bits)}

    assert may_follow(b'{"') == {b"t", b"to", b"tot", b"total", b'total"', b'total":'}
    assert may_follow(b'{"', b"to") == {b"t"}
    assert may_follow(b'{"', b"to", b"t") == {b"a"}


def test_what_fails_within_its_first_tokens_is_refused_before_it_runs() -> None:
    wide = {
        "anyOf": [
            {
                "type": "object",
                "properties": {f"k{key}_{kind}": {"type": "string"} for key in range(20)},
                "additionalProperties": {"type": "string", "maxLength": kind + 1},
            }
            for kind in range(120)
        ]
    }
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(wide))
    with pytest.raises(RequestError, match=r"cannot be followed after [1-9] tokens: .*items") as caught:
        Grammars(PRINTABLE, vocab=VOCAB).open(grammar)
    assert caught.value.code == "grammar_failed"


def test_the_text_that_is_tried_is_more_than_blanks() -> None:
    far = llguidance.grammar_from("regex", "[ ]{0,90}a{20}ä")
    with pytest.raises(RequestError, match="cannot be followed after 20 tokens"):
        Grammars(PRINTABLE, vocab=VOCAB).open(far)


def test_a_grammar_is_compiled_once_beside_the_caller_and_each_sequence_has_its_own_state() -> None:
    grammars = Grammars(PRINTABLE, vocab=VOCAB)
    pattern = llguidance.grammar_from("regex", "a[bc]+")
    assert not grammars.is_compiled(pattern)
    grammars.compile(pattern, beside_others=False)
    one = grammars.open(pattern)
    assert grammars.is_compiled(pattern)
    other = grammars.open(pattern)
    assert allowed(one, "ab") == "bc$"
    assert allowed(other, "") == "a"


def test_compiled_grammars_are_forgotten_in_the_order_of_their_last_use() -> None:
    grammars = Grammars(PRINTABLE, vocab=VOCAB)
    patterns = [llguidance.grammar_from("regex", f"a{{{count}}}") for count in range(1, KEPT + 1)]
    for pattern in patterns:
        grammars.open(pattern)
    grammars.open(patterns[0])
    grammars.open(llguidance.grammar_from("regex", "b"))
    assert [grammars.is_compiled(pattern) for pattern in patterns[:3]] == [True, False, True]
