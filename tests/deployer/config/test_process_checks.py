"""`server.processes` above 1 beside what one process keeps to itself: refused, each with its reason."""

import re

import pytest

from deployer.config.load import load_config
from deployer.errors import ConfigError

SEVERAL = ("+model=pocket_vl", "server.processes=2")


def faults(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config([*SEVERAL, *words])
    return str(caught.value)


def test_several_processes_serve_what_they_share() -> None:
    served = load_config(SEVERAL).server
    assert served.processes == 2 and served.max_stored_bytes > 0
    assert load_config(["+model=pocket_vl"]).server.processes == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("server.grpc_port=0",),
            "server.grpc_port=0 .*one process; set it to null, or use server.processes",
        ),
        (("vision.preprocess_workers=3",), "vision.preprocess_workers=3 .*workers of its own; set it to 0"),
        (("target=ray_serve",), "server.processes=2 .*one process; use 1, and more target.min_replicas"),
    ],
)
def test_what_one_process_keeps_to_itself_is_refused(words: tuple[str, ...], told: str) -> None:
    assert re.search(told, faults(*words)), faults(*words)


@pytest.mark.parametrize("count", [0, 65])
def test_a_number_of_processes_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="must be at least 1 and at most 64"):
        load_config(["+model=pocket_vl", f"server.processes={count}"])


def test_all_that_is_refused_is_told_at_once() -> None:
    told = faults("server.grpc_port=0", "vision.preprocess_workers=1")
    assert "server.grpc_port=" in told
    assert "vision.preprocess_workers=1" in told
