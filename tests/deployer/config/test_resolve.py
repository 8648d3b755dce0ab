from typing import get_args, get_type_hints

import pytest

from deployer.config.arms import kinds_of
from deployer.config.resolve import SERVERS, TARGETS, entry
from deployer.config.schema import ServerConfig, TargetConfig
from deployer.verbs import VERBS


def test_every_kind_of_the_schema_has_code_behind_it() -> None:
    assert set(SERVERS) == set(get_args(get_type_hints(ServerConfig)["kind"]))
    assert set(TARGETS) == set(kinds_of(TargetConfig))
    for name in (*SERVERS.values(), *TARGETS.values()):
        assert callable(entry(name))


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_code_behind_it(verb: str) -> None:
    assert callable(entry(VERBS[verb].run))
    for group in VERBS[verb].groups:
        assert isinstance(entry(group.kind), type)


@pytest.mark.parametrize("name", ["os:system", "subprocess:run", "deployers.evil:run", "builtins:eval"])
def test_only_our_own_code_can_be_named(name: str) -> None:
    with pytest.raises(AssertionError, match="our own code"):
        entry(name)
