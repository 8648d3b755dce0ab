"""What waits for its grammar, what does not, and how each ends."""

import time

import llguidance
import pytest
from printable import END_ID, PRINTABLE
from sequences import sampling

from engines.messages import Abort, Compile, Done, Failed, Flush, Order, Submit
from engines.sampling.grammar import KEPT, Grammars
from engines.steps.grammar_gate import GrammarGate

AB = llguidance.grammar_from("regex", "ab")
BROKEN = "start: /(a/"


def request(name: str, grammar: str | None = None) -> Submit:
    return Submit(
        request_id=name, token_ids=(1, 2), images=(), priority=0,
        sampling=sampling(grammar=grammar, eos_token_ids=(END_ID,)),
    )  # fmt: skip


@pytest.fixture
def grammars() -> Grammars:
    return Grammars(PRINTABLE, vocab=100)


def take(grammars: Grammars, orders: list[Order]) -> list[str]:
    """Take orders as a loop does; return the names of the requests among them."""
    for order in orders:
        if isinstance(order, Compile):
            grammars.compile(order.grammar, beside_others=False)
    return [order.request_id for order in orders if isinstance(order, Submit)]


def wait(grammars: Grammars, gate: GrammarGate) -> list[str]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if names := take(grammars, gate.let_through([])[0]):
            return names
        time.sleep(0.001)
    raise AssertionError("nothing came through")


@pytest.mark.parametrize("grammar", [AB, BROKEN])
def test_a_request_waits_for_its_grammar_and_for_no_other(grammars: Grammars, grammar: str) -> None:
    gate = GrammarGate(grammars)
    through, answers = gate.let_through([request("held", grammar), request("free"), Flush()])
    assert through == [request("free"), Flush(), Compile(grammar=grammar)] and answers == []
    assert not gate.is_empty
    take(grammars, through)
    assert wait(grammars, gate) == ["held"]
    assert gate.is_empty


def test_a_grammar_that_is_compiled_holds_nothing_up(grammars: Grammars) -> None:
    gate = GrammarGate(grammars)
    grammars.open(AB)
    assert gate.let_through([request("one", AB), request("two", AB)]) == (
        [request("one", AB), request("two", AB)],
        [],
    )


def test_several_requests_wait_for_one_grammar_that_is_compiled_once(grammars: Grammars) -> None:
    gate = GrammarGate(grammars)
    through, _ = gate.let_through([request("one", AB), request("two", AB)])
    assert through == [Compile(grammar=AB)]
    take(grammars, through)
    assert wait(grammars, gate) == ["one", "two"]


def test_a_grammar_that_was_forgotten_before_its_request_came_through_is_compiled_again(
    grammars: Grammars,
) -> None:
    gate = GrammarGate(grammars)
    patterns = [llguidance.grammar_from("regex", f"a{number}") for number in range(KEPT + 1)]
    (first, *others), _ = gate.let_through([request(pattern, pattern) for pattern in patterns])
    take(grammars, [first])
    until = time.monotonic() + 20
    while not grammars.is_compiled(patterns[0]):
        assert time.monotonic() < until
        time.sleep(0.001)
    take(grammars, others)
    assert not grammars.is_compiled(patterns[0])  # it was the oldest that was done
    names: list[str] = []
    while len(names) < len(patterns):
        names += wait(grammars, gate)
    assert sorted(names) == sorted(patterns) and gate.is_empty


def test_a_request_that_is_aborted_while_it_waits_is_answered(grammars: Grammars) -> None:
    gate = GrammarGate(grammars)
    through, _ = gate.let_through([request("held", AB)])
    assert through == [Compile(grammar=AB)]
    through, [done] = gate.let_through([Abort(request_id="held"), Abort(request_id="other")])
    assert through == [Abort(request_id="other")]
    assert isinstance(done, Done) and (done.request_id, done.finish_reason) == ("held", "abort")
    assert (done.usage.prompt_tokens, done.usage.output_tokens, gate.is_empty) == (2, 0, True)


def test_what_waits_when_the_engine_ends_is_answered(grammars: Grammars) -> None:
    gate = GrammarGate(grammars)
    gate.let_through([request("held", AB)])
    [failed] = gate.fail_all("the engine was stopped")
    assert isinstance(failed, Failed) and (failed.request_id, failed.code) == ("held", "engine_error")
    assert gate.is_empty


def test_an_engine_without_a_vocabulary_refuses_at_once() -> None:
    none = Grammars(None, vocab=100)
    assert GrammarGate(none).let_through([request("one", AB)]) == ([request("one", AB)], [])
