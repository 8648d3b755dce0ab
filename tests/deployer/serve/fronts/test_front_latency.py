"""A latency target over several processes: one limit judges what the requests of all of them took."""

from dataclasses import replace
from pathlib import Path

from serving_configs import SERVER

from deployer.serve.admission import Admission
from deployer.serve.api_errors import ApiFault
from deployer.serve.fronts.front_latency import FrontLatency, ParentLatency
from deployer.serve.fronts.messages import PlaceRefused, RequestEnded, decode_from_front, encode
from deployer.serve.fronts.shared_places import places_of

TARGET = replace(SERVER, processes=2, max_requests=64, target_ttft_ms=1000, target_window=4)


def test_all_processes_have_the_places_that_the_requests_of_all_have_earned(tmp_path: Path) -> None:
    parent = ParentLatency.of(TARGET, places_of(tmp_path, TARGET, index=None))
    assert parent is not None

    def tell(said: object) -> None:
        message = decode_from_front(encode(said))  # type: ignore[arg-type]
        assert isinstance(message, PlaceRefused | RequestEnded)
        parent.take(message)

    doors = []
    for index in range(2):
        held = places_of(tmp_path, TARGET, index=index)
        doors.append(Admission(64, latency=FrontLatency(tell, held), held=held))
    assert [door.places for door in doors] == [4, 4]
    entered = [doors[number % 2].try_enter() for number in range(5)]
    refused = entered.pop()
    assert isinstance(refused, ApiFault)
    assert refused.message.startswith("4 requests are in flight, more than 4 would miss `server.target_ttft")
    latency = doors[0].latency
    assert latency is not None
    latency.was_full()
    for number, entered_s in enumerate([*entered, *entered]):  # of a window of 8 each process has a half
        assert isinstance(entered_s, float)
        of = doors[number % 2].latency
        assert of is not None
        of.ended(entered_s=entered_s, ttft_s=0.1, token_s=None)
    assert [door.places for door in doors] == [8, 8]
    assert isinstance(doors[1].try_enter(), float)


def test_without_a_target_there_is_no_limit(tmp_path: Path) -> None:
    server = replace(TARGET, target_ttft_ms=None)
    assert ParentLatency.of(server, places_of(tmp_path, server, index=None)) is None
