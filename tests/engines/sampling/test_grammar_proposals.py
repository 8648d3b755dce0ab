"""What grammars propose: likely tokens, with the masks of their own time; answers are not touched by it."""

import json
import random
from typing import Any

import llguidance
import numpy as np
import pytest
from printable import END_ID, PRINTABLE, SIZE, ids_of, text_of

from engines.messages import Vocabulary
from engines.sampling.grammar import Grammars
from engines.sampling.grammar_state import LONGEST_REST, PATIENCE, GrammarState
from engines.sampling.masks_at_once import MasksAtOnce

VOCAB = 100  # some rows more than the vocabulary has ids


def proposing(pattern: str, *more: bytes) -> tuple[GrammarState, GrammarState]:
    """Two states of one grammar, of which the second proposes; `more` tokens behind the printable ones."""
    tokens = (*PRINTABLE.tokens, *more)
    vocabulary = Vocabulary(tokens=tokens, special_ids=PRINTABLE.special_ids, end_ids=PRINTABLE.end_ids)
    grammar = llguidance.grammar_from("regex", pattern)
    plain, quick = (Grammars(vocabulary, vocab=VOCAB, proposes=one) for one in (False, True))
    return plain.open(grammar), quick.open(grammar)


def likely(state: GrammarState, outputs: list[int], most: int) -> list[tuple[int, bytes]]:
    """What is likely behind an answer."""
    (found,) = MasksAtOnce().walked([state.likely_behind(outputs, most)], state.mask_bytes)
    return found


def test_text_that_must_come_is_likely_in_its_longest_tokens_with_the_masks_of_their_time() -> None:
    plain, quick = proposing("a(total: [0-9])+", b"tot", b"total", b": ", b": 1")
    found = likely(quick, ids_of("a"), 8)
    assert [token for token, _ in found] == [SIZE + 1, SIZE + 2]
    outputs = ids_of("a")
    for token, mask in found:
        outputs.append(token)
        assert mask == plain.mask(outputs)
    assert len(likely(quick, ids_of("a"), 1)) == 1
    assert likely(plain, ids_of("a"), 8) == [] == likely(quick, ids_of("a"), 0)


def test_what_was_chosen_where_just_the_same_could_come_is_likely_again() -> None:
    _, quick = proposing("(total: [0-9];[ ]{0,2})*", b"tot")
    chosen = [*ids_of("total: 1; "), *ids_of("total: 2; "), *ids_of("total")]
    for place in range(len(chosen) + 1):
        found = likely(quick, chosen[:place], 4)
    assert text_of([token for token, _ in found]) == ": "  # which digit is left open


def test_nothing_is_noted_of_answers_where_nobody_asks_what_is_likely() -> None:
    vocabulary = Vocabulary(tokens=PRINTABLE.tokens, special_ids=(0,), end_ids=(END_ID,))
    grammars = Grammars(vocabulary, vocab=VOCAB, proposes=True)
    pattern = llguidance.grammar_from("regex", "[ab]{3}c")
    first, asked = grammars.open(pattern), grammars.open(pattern)
    for place in range(4):
        first.mask(ids_of("aaac")[:place])
    assert likely(asked, [], 4) == []
    for place in range(4):
        asked.mask(ids_of("bbbc")[:place])  # someone has asked a few tokens ago
    assert text_of([token for token, _ in likely(grammars.open(pattern), [], 1)]) == "b"


def test_no_end_is_likely_and_nothing_behind_a_grammar_that_was_left() -> None:
    _, quick = proposing("ab")
    assert [token for token, _ in likely(quick, [], 9)] == ids_of("ab")
    assert likely(quick, ids_of("x"), 9) == [] and quick.fault is not None


def test_states_of_one_grammar_learn_from_each_other_and_of_others_do_not() -> None:
    vocabulary = Vocabulary(tokens=(*PRINTABLE.tokens, b"bc"), special_ids=(0,), end_ids=(END_ID,))
    grammars = Grammars(vocabulary, vocab=VOCAB, proposes=True)
    pattern, other = (llguidance.grammar_from("regex", text) for text in ("a[bc]{2}d", "a[bc]{2}e"))
    first = grammars.open(pattern)
    for place in range(4):
        likely(first, ids_of("acbd")[:place], 4)
    found = [likely(grammars.open(one), ids_of("a"), 4) for one in (pattern, other)]
    assert [text_of([token for token, _ in one]) for one in found] == ["cbd", ""]


def test_nobody_waits_long_for_likely_tokens_where_none_come() -> None:
    _, quick = proposing("[a-z]*(key: [0-9])*")
    text = ids_of("thequickbrownfoxjumpsoverthelazydog" * 4)
    found = [bool(likely(quick, text[:place], 4)) for place in range(len(text)) if quick.awaits_likely(place)]
    assert sum(found) == 1, "what was chosen once, until it turns out to be wrong"
    assert len(found) <= 2 * PATIENCE + len(text) // LONGEST_REST
    assert likely(quick, [*text, *ids_of("key: 1k")], 4) != []
    assert all(quick.awaits_likely(len(text) + 7 + more) for more in range(PATIENCE))


def random_schema(dice: random.Random, depth: int = 0) -> dict[str, Any]:
    kind = dice.choice(
        ["string", "integer", "boolean", "enum", "null", "object", "array"][: 7 if depth < 2 else 5]
    )
    if kind == "enum":
        return {"enum": dice.sample(["red", "blue", 12, None, "r"], 3)}
    if kind == "string":
        return {"type": kind, "maxLength": dice.randrange(1, 5)}
    if kind == "array":
        return {"type": kind, "items": random_schema(dice, depth + 1), "maxItems": 3}
    if kind != "object":
        return {"type": kind}
    names = dice.sample(["total", "total_tax", "to", "name", "n", "date"], dice.randrange(1, 4))
    required = [name for name in names if dice.random() < 0.8]
    return {
        "type": "object", "properties": {name: random_schema(dice, depth + 1) for name in names},
        "required": required, "additionalProperties": False,
    }  # fmt: skip


@pytest.mark.parametrize("block", range(8))
def test_masks_of_random_answers_to_random_schemas_are_the_same_with_proposals(block: int) -> None:
    accepted = 0
    for seed in range(40 * block, 40 * (block + 1)):
        dice = random.Random(seed)
        text = (
            json.dumps({f"{name}": 0 for name in ("total", "total_tax", "name", "date")}).encode()
            + b"redblue"
        )
        more = {text[at : at + dice.randrange(2, 6)] for at in dice.sample(range(len(text) - 5), 11)}
        tokens = (*PRINTABLE.tokens, *sorted(more - set(PRINTABLE.tokens)))
        vocabulary = Vocabulary(tokens=tokens, special_ids=(0,), end_ids=(END_ID,))
        whole = {"type": "object", "properties": {"a": random_schema(dice)}, "required": ["a"]}
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            json.dumps(whole), {"whitespace_pattern": " ?"}
        )
        states = [Grammars(vocabulary, vocab=VOCAB, proposes=one).open(grammar) for one in (False, True)]
        accepted += follow_both(*states, dice)
    assert accepted > 300


def follow_both(plain: GrammarState, quick: GrammarState, dice: random.Random) -> int:
    """Take tokens that may come, likely ones more often; return how many of the likely ones were taken."""
    outputs: list[int] = []
    accepted = 0
    while len(outputs) < 60:
        proposed = likely(quick, outputs, dice.randrange(1, 6))
        masks = [quick.mask(outputs), *(mask for _, mask in proposed)]
        for mask, guess in zip(masks, [*(token for token, _ in proposed), None], strict=True):
            assert mask == plain.mask(outputs) and plain.fault is None is quick.fault
            allowed = np.flatnonzero(np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")).tolist()
            assert guess is None or (guess in allowed and guess != END_ID)
            token = guess if guess is not None and dice.random() < 0.7 else dice.choice(allowed)
            if token == END_ID:
                return accepted
            outputs.append(token)
            if token != guess:
                break
            accepted += 1
    return accepted
