"""The tensors that a checkpoint of a spec holds, by upstream's names: the name rules read backwards."""

from engines.families import rules_for
from engines.spec import ModelSpec
from engines.weights.parameters import parameters
from engines.weights.split import source_shape


def hub_tensors(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Return names and shapes; an optional parameter counts as there."""
    rules = rules_for(spec).rules
    found: dict[str, tuple[int, ...]] = {}
    for parameter in parameters(spec):
        stems = _stems(parameter.name)
        matching = [rule for rule in rules if rule.target in stems]
        assert matching, f"no rule writes {parameter.name}"
        for rule in matching:
            name = rule.source.replace("{i}", stems[rule.target])
            assert name not in found, f"{name} is claimed twice"
            found[name] = source_shape(rule, parameter)
    return found


def _stems(name: str) -> dict[str, str]:
    """Return a parameter's name, and with {i} for each number in it, and that number."""
    parts = name.split(".")
    return {name: ""} | {
        ".".join([*parts[:at], "{i}", *parts[at + 1 :]]): part
        for at, part in enumerate(parts)
        if part.isdigit()
    }
