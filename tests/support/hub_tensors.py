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
        stem, number = _numbered(parameter.name)
        matching = [rule for rule in rules if rule.target in (parameter.name, stem)]
        assert matching, f"no rule writes {parameter.name}"
        for rule in matching:
            name = rule.source.replace("{i}", number)
            assert name not in found, f"{name} is claimed twice"
            found[name] = source_shape(rule, parameter)
    return found


def _numbered(name: str) -> tuple[str, str]:
    """Return a parameter's name with {i} for its layer, and the layer."""
    parts = name.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    if not numbers:
        return name, ""
    [at] = numbers
    return ".".join([*parts[:at], "{i}", *parts[at + 1 :]]), parts[at]
