"""Sequences of several fronts over one engine: each reply is for the front that asked."""

import random
from collections import defaultdict
from collections.abc import Sequence

from sequences import sampling

from deployer.serve.fronts.relay import Relay
from engines.messages import Abort, Delta, Done, Failed, Reply, Submit, ToEngine, Usage


class Noting:
    """An engine that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[ToEngine] = []
        self.is_ready = True

    def tell(self, message: ToEngine) -> bool:
        if self.is_ready:
            self.told.append(message)
        return self.is_ready

    def refusal(self, request_id: str) -> Failed:
        return Failed(request_id=request_id, code="engine_unavailable", message="it is away")


class Answers:
    """What each front was answered."""

    def __init__(self) -> None:
        self.of: dict[int, list[Reply]] = defaultdict(list)
        self.num_messages = 0

    def __call__(self, front: int, replies: Sequence[Reply]) -> None:
        self.num_messages += 1
        self.of[front] += replies


def submit(name: str) -> Submit:
    return Submit(request_id=name, token_ids=(1,), images=(), sampling=sampling(max_new_tokens=1), priority=0)


def delta(name: str) -> Delta:
    return Delta(request_id=name, token_ids=(1,), logprobs=())


def done(name: str) -> Done:
    usage = Usage(
        prompt_tokens=1, cached_tokens=0, image_tokens=0, output_tokens=1, queue_s=0, prefill_s=0,
        encode_s=0, decode_s=0, num_preemptions=0,
    )  # fmt: skip
    return Done(request_id=name, finish_reason="stop", stop_token_id=None, usage=usage)


def test_replies_go_to_the_front_that_asked_and_a_frame_is_one_message_a_front() -> None:
    answers, engine = Answers(), Noting()
    relay = Relay(answers)
    for front, name in ((0, "a"), (1, "b"), (0, "c")):
        relay.submit(engine, submit(name), front=front)
    relay.put_all([delta("a"), delta("b"), delta("c"), done("a"), delta("b")])
    assert answers.of == {0: [delta("a"), delta("c"), done("a")], 1: [delta("b"), delta("b")]}
    assert (answers.num_messages, len(relay)) == (2, 2)


def test_a_front_that_dies_has_its_sequences_aborted_and_no_replies() -> None:
    answers, engine = Answers(), Noting()
    relay = Relay(answers)
    for front, name in ((0, "a"), (1, "b"), (0, "c")):
        relay.submit(engine, submit(name), front=front)
    assert relay.lose(engine, 0) == 2
    assert engine.told[3:] == [Abort(request_id="a"), Abort(request_id="c")]
    relay.put_all([done("a"), delta("b"), done("c")])
    assert answers.of == {1: [delta("b")]}
    assert relay.lose(engine, 0) == 0


def test_a_front_ends_sequences_of_its_own_alone() -> None:
    engine = Noting()
    relay = Relay(Answers())
    relay.submit(engine, submit("a"), front=0)
    relay.abort(engine, "a", front=1)
    relay.abort(engine, "unknown", front=0)
    assert engine.told == [submit("a")]
    relay.abort(engine, "a", front=0)
    assert engine.told[1:] == [Abort(request_id="a")]


def test_an_id_in_use_and_an_engine_that_is_away_are_answered_at_once() -> None:
    answers, engine = Answers(), Noting()
    relay = Relay(answers)
    relay.submit(engine, submit("a"), front=0)
    relay.submit(engine, submit("a"), front=1)
    [refused] = answers.of[1]
    assert isinstance(refused, Failed) and refused.code == "invalid_request" and "`a`" in refused.message
    engine.is_ready = False
    relay.submit(engine, submit("b"), front=1)
    assert answers.of[1][1] == engine.refusal("b")
    assert (len(engine.told), len(relay)) == (1, 1)


def test_every_sequence_is_answered_once_whatever_comes_between() -> None:
    chance = random.Random(0)
    answers, engine = Answers(), Noting()
    relay = Relay(answers)
    owners = {str(number): chance.randrange(3) for number in range(200)}
    for name, front in owners.items():
        relay.submit(engine, submit(name), front=front)
        if chance.random() < 0.5:
            relay.put_all([delta(name), done(name)])
    relay.lose(engine, 2)
    relay.fail_all("engine_error", "it died")
    relay.fail_all("engine_error", "it died again")
    assert len(relay) == 0
    for front in (0, 1):
        ends = [reply.request_id for reply in answers.of[front] if isinstance(reply, Done | Failed)]
        assert sorted(ends) == sorted(name for name, owner in owners.items() if owner == front)
    assert not any(isinstance(reply, Failed) for reply in answers.of[2]), "its front was gone by then"


def test_the_sequences_of_a_completion_are_found_by_front() -> None:
    relay = Relay(Answers())
    for front, name in ((0, "chat-1-0"), (1, "chat-2-0"), (0, "chat-1-1"), (1, "chat-1-2")):
        relay.submit(Noting(), submit(name), front=front)
    assert relay.owners_of("chat-1") == {0: ["chat-1-0", "chat-1-1"], 1: ["chat-1-2"]}
    assert relay.owners_of("chat") == {}
