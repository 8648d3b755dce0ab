import json
import subprocess
import sys

import pytest
from internvl_golden import CASES, ROOT

from engines.errors import CheckpointError
from engines.families import known_families, read_spec, rules_for
from engines.families.registry import FAMILIES


def test_known_families_are_sorted() -> None:
    assert list(known_families()) == sorted(known_families())
    assert "internvl" in known_families()


KNOWN = [f"`{name}` ({family.name})" for family in FAMILIES for name in family.architectures]


def test_an_unknown_architecture_is_answered_with_the_known_ones() -> None:
    with pytest.raises(CheckpointError) as caught:
        read_spec({"architectures": ["FooForCausalLM"], "model_type": "foo"}, origin="m/config.json")
    assert str(caught.value) == (
        "unknown model: architectures `FooForCausalLM`, model_type `foo` (m/config.json): "
        "known are " + ", ".join(sorted(KNOWN)) + "; use a checkpoint of one of these"
    )


@pytest.mark.parametrize("config", [{}, {"architectures": None}, {"architectures": "Foo"}, {"model_type": 3}])
def test_a_config_without_a_known_name_is_unknown(config: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="unknown model"):
        read_spec(config, origin="m/config.json")


@pytest.mark.parametrize("key", ["architectures", "model_type"])
def test_either_name_is_enough(key: str) -> None:
    config = json.loads((ROOT / "qwen2" / "config.json").read_text())
    assert read_spec({k: v for k, v in config.items() if k != key}, origin="m").family == "internvl"


@pytest.mark.parametrize("case", CASES)
def test_every_target_of_a_rule_table_is_written_by_one_rule_only(case: str) -> None:
    spec = read_spec(json.loads((ROOT / case / "config.json").read_text()), origin=case)
    rules = rules_for(spec).rules
    assert len({rule.source for rule in rules}) == len(rules)
    assert len({(rule.target, rule.block) for rule in rules}) == len(rules)


def test_reading_specs_imports_no_torch() -> None:
    code = (
        "import sys, engines.families, engines.weights.parameters, engines.weights.split, "
        "engines.weights.match, engines.vision.pixels.dynamic_tiles; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
