"""What is said of a schema that cannot be enforced."""

from typing import Any

import pytest

from deployer.generation.schema_faults import schema_fault

BROKEN: dict[str, Any] = {"type": "array", "uniqueItems": True}


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"properties": {"a": BROKEN}}, ".properties.a`: keyword `uniqueItems` cannot be enforced; leave it"),
        ({"if": {}, "then": {}}, "`: keywords `if`, `then` cannot be enforced; leave them out"),
        ({"anyOf": [{"type": "null"}, {"items": BROKEN}]}, ".anyOf[1].items`: keyword `uniqueItems`"),
        ({"$defs": {"x": BROKEN}, "items": {"$ref": "#/$defs/x"}}, ".$defs.x`: keyword `uniqueItems`"),
        ({"properties": {"a": {"type": "strin"}}}, ".properties.a`: `type` is `strin`: must be `array`"),
        ({"properties": {"a": {"type": "string", "format": "zip"}}}, ".properties.a`: `format` `zip` cannot"),
        ({"items": {"pattern": "((("}}, ".items`: `pattern`: unclosed group"),
        ({"items": {"$ref": "#/no"}}, ".items`: `$ref` `#/no`: there is no such place in the schema"),
        ({"oneOf": [{"type": "null"}, {"type": "null"}]}, "`: keyword `oneOf` cannot be enforced where"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "`: no value fits it: minimum (5) is greater"),
        ({"properties": {"a": 7}}, ".properties.a`: schema must be an object or boolean"),
    ],
)  # fmt: skip
def test_the_innermost_part_at_fault_is_named_with_keyword_and_rule(schema: Any, fault: str) -> None:
    found = schema_fault(schema, at="s")
    assert found is not None and found.startswith(f"`s{fault}")


def test_a_schema_that_compiles_has_no_fault() -> None:
    assert schema_fault({"properties": {"a": {"type": "string"}}}, at="s") is None


def test_a_reason_is_short_however_large_the_schema() -> None:
    pattern = {"type": "string", "pattern": "^a+$", "format": "date"}
    found = schema_fault(pattern, at="s")
    assert found is not None and len(found) < 250
