"""Places in memory that several processes map: sums, the lock, and what a dead process leaves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from serving_configs import SERVER

from deployer.config.schema import QosClass
from deployer.serve.admission import Admission
from deployer.serve.api_errors import ApiFault
from deployer.serve.class_places import ClassPlaces
from deployer.serve.fronts.shared_places import CLOSED, PID, SharedPlaces, places_of

# Takes places, one after the other, each under the lock, as long as there are any; then says how many.
GREEDY = """
import sys
from pathlib import Path
from deployer.serve.admission import Admission
from deployer.serve.fronts.shared_places import SharedPlaces
places = SharedPlaces(Path(sys.argv[1]), fronts=4, classes=(), index=int(sys.argv[2]))
admission = Admission(1000, held=places)
sys.stdin.read()
taken = sum(isinstance(admission.try_enter(), float) for _ in range(1000))
print(taken)
"""
HOLDER = """
import sys, time
from pathlib import Path
from deployer.serve.fronts.shared_places import SharedPlaces
places = SharedPlaces(Path(sys.argv[1]), fronts=2, classes=(), index=0)
with places.alone():
    places.change(1, None)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[SharedPlaces, SharedPlaces]]:
    names = ["gold", "bulk"]
    both = tuple(
        SharedPlaces(tmp_path / "places", fronts=2, classes=names, index=index) for index in range(2)
    )
    yield both[0], both[1]
    for one in both:
        one.close()


def test_each_sees_what_all_hold(pair: tuple[SharedPlaces, SharedPlaces]) -> None:
    first, second = pair
    first.change(2, "gold")
    second.change(1, "gold")
    second.change(1, None)
    for places in pair:
        assert (places.total, dict(places.by_class)) == (4, {"gold": 3, "bulk": 0})
    first.change(-1, "gold")
    assert (second.total, second.by_class["gold"]) == (3, 2)


def test_what_a_dead_front_held_is_given_back(pair: tuple[SharedPlaces, SharedPlaces]) -> None:
    first, second = pair
    first.change(3, "bulk")
    first.connection_closed()
    first.beat()
    second.change(1, "bulk")
    assert second.of(0, PID) == os.getpid()
    second.clear(0)
    assert (second.total, second.by_class["bulk"], second.of(0, CLOSED)) == (1, 1, 0)
    assert second.pids() == {"parent": 0}


def test_the_beat_of_a_front_tells_how_long_it_is_silent(pair: tuple[SharedPlaces, SharedPlaces]) -> None:
    first, second = pair
    first.beat()
    time.sleep(0.05)
    assert 0.04 <= second.silence_s(0) < 5
    first.beat()
    assert second.silence_s(0) < 0.04


def test_processes_that_race_for_the_places_take_all_of_them_and_no_more(tmp_path: Path) -> None:
    with_rows = [tmp_path / "places", *map(str, range(4))]
    racers = [
        subprocess.Popen(
            (sys.executable, "-c", GREEDY, str(with_rows[0]), index),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in map(str, with_rows[1:])
    ]
    taken = [int(racer.communicate("")[0]) for racer in racers]
    assert sum(taken) == 1000


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    file = tmp_path / "places"
    holder = subprocess.Popen((sys.executable, "-c", HOLDER, str(file)), stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    places = SharedPlaces(file, fronts=2, classes=(), index=1)
    holder.send_signal(signal.SIGKILL)
    with places.alone():
        assert places.total == 1
    places.clear(0)
    assert places.total == 0
    holder.communicate()
    places.close()


def test_classes_keep_their_places_over_all_processes(tmp_path: Path) -> None:
    gold = QosClass(name="gold", priority=0, share=0.5, max_requests=None)
    bulk = QosClass(name="bulk", priority=1, share=0.0, max_requests=3)
    server = replace(SERVER, qos=[gold, bulk], qos_default="bulk", processes=2)
    doors = [
        Admission(8, ClassPlaces.of(server), held=places_of(tmp_path, server, index=index))
        for index in range(2)
    ]
    for number in range(3):
        assert isinstance(doors[number % 2].try_enter("bulk"), float)
    for door in doors:
        refused = door.try_enter("bulk")
        assert isinstance(refused, ApiFault)
        assert refused.message.startswith("3 requests of class `bulk` are in flight, server.qos allows it 3")
    entered = [doors[number % 2].try_enter("gold") for number in range(6)]
    assert [isinstance(one, float) for one in entered] == [True] * 5 + [False]
    assert [door.in_flight for door in doors] == [5, 3]
