"""Rules between the fields of a body, as JSON schema says them; the bodies' validators hold to them.

They stand in /openapi.json alone: a client that follows them is not refused for what they say.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict

Rule = dict[str, Any]


def fits_one(*rules: Rule) -> ConfigDict:
    """Return the config of a body that fits at least one of these."""
    return ConfigDict(json_schema_extra={"anyOf": list(rules)})


def fits(*alternatives: Sequence[Rule]) -> ConfigDict:
    """Return the config of a body that fits at least one rule of each group."""
    return ConfigDict(json_schema_extra={"allOf": [{"anyOf": list(rules)} for rules in alternatives]})


def given(*names: str, **values: Any) -> Rule:
    """Return the rule that fields are there and not null; `values` says which values of a field will do."""
    properties: Rule = {name: {"not": {"type": "null"}} for name in names}
    properties |= {name: {"enum": list(allowed)} for name, allowed in values.items()}
    return {"required": list(properties), "properties": properties}


def absent(*names: str) -> Rule:
    """Return the rule that fields are null or left out."""
    return {"properties": {name: {"type": "null"} for name in names}}


def both(one: Rule, other: Rule) -> Rule:
    """Return the rule that two rules about different fields hold."""
    return {
        "required": [*one.get("required", ()), *other.get("required", ())],
        "properties": {**one["properties"], **other["properties"]},
    }


def limited(rule: Rule, **fields: Rule) -> Rule:
    """Return a rule with another one for some of its fields."""
    properties = rule["properties"]
    changed = {name: properties.get(name, {}) | one for name, one in fields.items()}
    return rule | {"properties": properties | changed}
