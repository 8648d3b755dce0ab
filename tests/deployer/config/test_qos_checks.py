"""`server.qos` that does not fit together is told, each fault with its place."""

import re

import pytest

from deployer.config.devices import EngineChoice
from deployer.config.engine_options import engine_options
from deployer.config.load import load_config
from deployer.errors import ConfigError

GOLD = "{name: gold, priority: 0, share: 0.5, max_requests: null}"
BULK = "{name: bulk, priority: 1, share: 0.25, max_requests: 4}"


def faults(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(["+model=pocket_vl", *words])
    return str(caught.value)


def test_classes_reach_the_server_and_the_scheduler() -> None:
    config = load_config(["+model=pocket_vl", f"server.qos=[{GOLD}, {BULK}]", "server.qos_default=bulk"])
    assert [one.max_requests for one in config.server.qos] == [None, 4]
    options = engine_options(config, EngineChoice(kind="pytorch", device="cpu", reason=None))
    assert [(one.name, one.priority, one.share) for one in options.scheduler.classes] == [
        ("gold", 0, 0.5),
        ("bulk", 1, 0.25),
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((f"server.qos=[{GOLD}]",), "server.qos_default=null .*need one; set it to one of `gold`"),
        ((f"server.qos=[{GOLD}]", "server.qos_default=silver"), "server.qos_default=silver .*`gold`"),
        (
            (f"server.qos=[{GOLD}]", "server.qos_default=gold", "server.target_ttft_ms=500"),
            r"server.target_ttft_ms=500.0 .*own fixed shares .*set it to null, or drop server.qos",
        ),
        (("server.qos_default=gold",), "there are no classes; set server.qos"),
        ((f"server.qos=[{GOLD}, {GOLD}]", "server.qos_default=gold"), r"qos\[1\].name=gold .*once"),
        (
            (f"server.qos=[{GOLD}, {GOLD.replace('gold', 'b').replace('0.5', '0.6')}]",),
            "add up to 1.1: they are parts of one whole",
        ),
        (
            (f"server.qos=[{GOLD.replace('0.5', '1.5')}]", "server.qos_default=gold"),
            r"server.qos\[0\].share=1.5 \(command line .*must be at least 0 and at most 1",
        ),
        (
            (f"server.qos=[{BULK.replace('4', '0')}]", "server.qos_default=bulk"),
            r"qos\[0\].max_requests=0 .*at least 1",
        ),
        (
            (f"server.qos=[{GOLD.replace('gold', 'a b')}]", "server.qos_default=gold"),
            r"qos\[0\].name=a b .*letters, digits",
        ),
        (("server.qos=[{name: gold}]",), r"missing `server.qos\[0\].share`"),
        (
            ("server.qos=[{name: gold, share: 2}]",),
            r"set server.qos\[0\].max_requests=<a whole number> or null",
        ),
    ],
)
def test_a_fault_names_the_class_and_the_rule(words: tuple[str, ...], told: str) -> None:
    assert re.search(told, faults(*words)), faults(*words)
