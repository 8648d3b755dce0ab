from engines.schedule.proposer import LONGEST_REST, Proposer


def rests_of(brought: list[int], *, price: float = 0.2) -> list[int]:
    """How many tokens a sequence goes without proposals after each step, of text that always repeats."""
    proposer, tokens, found = Proposer(match_tokens=1), [7, 7], []
    for num_accepted in brought:
        assert proposer.propose(tokens, 1) == [7]
        proposer.learn(num_accepted, price=price, length=len(tokens))
        rest = 0
        while not proposer.propose(tokens, 1):
            assert not proposer.expects(tokens)
            tokens.append(7)
            rest += 1
        found.append(rest)
    return found


def test_whoever_gains_nothing_rests_twice_as_long_each_time_up_to_a_limit() -> None:
    assert rests_of([0] * 9) == [0, 0, 2, 4, 8, 16, 32, LONGEST_REST, LONGEST_REST]


def test_what_pays_alone_may_not_pay_where_others_wait_for_it() -> None:
    assert rests_of([1, 0, 1, 0, 1]) == [0] * 5
    assert rests_of([1, 0, 1, 0, 1], price=0.8) == [0, 2, 4, 8, 16]


def test_a_gain_ends_the_rests() -> None:
    assert rests_of([0, 0, 0, 0, 3, 0, 0, 0, 0, 0]) == [0, 0, 2, 4, 0, 0, 0, 2, 4, 8]


def test_one_more_than_twice_what_was_right_is_proposed_next() -> None:
    proposer, tokens, found = Proposer(match_tokens=1), [7, 7], []
    for num_accepted in (3, 7, 4, 1, 0, 1):
        found.append(len(proposer.propose(tokens, 8)))
        tokens += [7] * (1 + num_accepted)
        proposer.learn(num_accepted, price=0.2, length=len(tokens))
    assert found == [3, 7, 8, 8, 3, 1]


def test_a_wait_for_nothing_counts_as_a_proposal_that_was_wrong() -> None:
    proposer = Proposer(match_tokens=2)
    assert proposer.expects([1, 2, 3, 1, 2])
    assert proposer.propose([1, 2, 3, 1, 2, 1], 3) == []
    assert proposer.propose([1, 2, 3, 1, 2, 1, 2], 3) == []  # it rests
    assert Proposer(match_tokens=2).propose([1, 2, 3, 1, 2, 1, 2], 3) == [1, 2, 1]


def test_a_text_that_is_new_is_not_waited_for() -> None:
    proposer = Proposer(match_tokens=2)
    assert not proposer.expects([1, 2, 3])
    assert proposer.propose([1, 2, 3, 4], 3) == []
    assert proposer.propose([1, 2, 3, 4, 1, 2], 3) == [3, 4, 1]
