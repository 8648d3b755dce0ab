"""Rules of the group `target`."""

import pytest

from deployer.config import load_config
from deployer.errors import ConfigError


def fault(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(["+model=internvl2_8b", *words])
    (found,) = caught.value.faults
    return found


def test_a_split_over_more_gpus_than_a_node_has_is_refused() -> None:
    for target in ("kubernetes", "ray_serve"):
        told = fault(f"target={target}", "engine.tp=8", "target.gpus_per_node=4")
        assert told.startswith(
            "engine.tp=8 (command line `engine.tp=8`): the ranks of one engine share a node"
        )
        assert "target.gpus_per_node=4; lower engine.tp" in told
        load_config(["+model=internvl2_8b", f"target={target}", "engine.tp=8"])


def test_a_key_of_another_target_is_unknown() -> None:
    told = fault("target=systemd", "target.namespace=x")
    assert told.startswith("unknown key `target.namespace` (command line `target.namespace=x`)")


def test_a_kind_that_is_none_is_refused_with_those_there_are() -> None:
    told = fault("target.kind=kubernets")
    assert "must be one of `compose`, `kubernetes`, `local`, `ray_serve`, `systemd`" in told
    assert "nearest: `kubernetes`" in told


def test_replicas_are_a_range() -> None:
    told = fault("target=kubernetes", "target.min_replicas=4")
    assert "target.min_replicas=4" in told and "must not be above target.max_replicas=1" in told


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        ("target.min_replicas=0", "must be at least 1"),
        ("target.shm_bytes=5", "must be at least 1048576"),
        ("target.download_gbps=0", "must be above 0"),
        ("target.name=My_Name", "lower case letters, digits and -"),
        ("target.namespace=-x", "lower case letters, digits and -"),
    ],
)
def test_numbers_and_names_are_in_their_range(word: str, rule: str) -> None:
    assert rule in fault("target=kubernetes", word)


def test_a_gradio_chat_is_refused_where_its_port_would_not_be_published() -> None:
    for target in ("compose", "kubernetes", "ray_serve"):
        told = fault(f"target={target}", "server=gradio")
        assert "server.gradio_port=7860" in told and f"not {target}; use server=openai there" in told
    assert load_config(["+model=internvl2_8b", "server=gradio", "target=systemd"]).server.gradio_port == 7860
