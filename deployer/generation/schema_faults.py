"""Why a JSON schema cannot be enforced: the place in it, the keyword and the rule.

The grammar that is made of it is ours and is not shown.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_MAPS = ("$defs", "definitions", "properties", "patternProperties")  # of names to schemas
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")
_TYPES = "`array`, `boolean`, `integer`, `null`, `number`, `object` or `string`"
_MOST = 200  # characters of a reason that we have no words of our own for


def schema_fault(schema: Any, *, at: str) -> str | None:
    """Return "`at.properties.x`: the rule; the way out" for the innermost part at fault, None for no fault.

    A part is at fault where it alone, beside the definitions of the whole, is refused for the same reason.
    """
    reason = refusal(schema)
    if reason is None:
        return None
    definitions = _definitions(schema)
    place = at
    while True:
        inner = next((one for one in _parts(schema) if _refused(one[1], definitions) == reason), None)
        if inner is None:
            return f"`{place}`: {_words(reason)}"
        place, schema = f"{place}.{inner[0]}", inner[1]


def refusal(schema: Any) -> str | None:
    """Return the grammar compiler's own reason, None where it takes the schema."""
    from llguidance import LLMatcher

    return LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(json.dumps(schema))) or None


def _definitions(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        return {}
    return {name: schema[name] for name in ("$defs", "definitions") if name in schema}


def _refused(schema: Any, definitions: Mapping[str, Any]) -> str | None:
    return refusal({**definitions, **schema} if isinstance(schema, Mapping) else schema)


def _parts(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield the schemas that stand in a schema, with their places."""
    if not isinstance(schema, Mapping):
        return
    for key in _MAPS:
        inner = schema.get(key)
        if isinstance(inner, Mapping):
            yield from ((f"{key}.{name}", one) for name, one in inner.items())
    for key in _LISTS:
        inner = schema.get(key)
        if isinstance(inner, list):
            yield from ((f"{key}[{place}]", one) for place, one in enumerate(inner))
    yield from ((key, schema[key]) for key in _SINGLE if key in schema)


def _words(reason: str) -> str:
    """Return a reason as ours: the rule, and the way out."""
    if found := re.match(r"Unimplemented keys: \[(.*)\]", reason):
        keys = [key.strip('"') for key in found[1].split(", ")]
        shown = ", ".join(f"`{key}`" for key in keys)
        return (
            f"keyword {shown} cannot be enforced; leave it out"
            if len(keys) == 1
            else f"keywords {shown} cannot be enforced; leave them out"
        )
    if found := re.match(r"Invalid type: (.*)", reason):
        return f"`type` is `{found[1]}`: must be {_TYPES}"
    if found := re.match(r"Unknown format: (.*)", reason):
        return f"`format` `{found[1]}` cannot be enforced; leave it out"
    if found := re.match(r"Pointer '(.*)' does not exist", reason):
        return f"`$ref` `#{found[1]}`: there is no such place in the schema"
    if found := re.match(r"Resource '(.*?)' is not present", reason):
        return f"`$ref` `{found[1]}`: schemas are not fetched; put it under `$defs`"
    if reason.startswith("regex parse error"):
        return f"`pattern`: {reason.rpartition('error: ')[2].strip()}"
    if reason.startswith("oneOf constraints"):
        return "keyword `oneOf` cannot be enforced where its alternatives overlap; use `anyOf`"
    if found := re.match(r"Unsatisfiable schema: (.*)", reason, re.DOTALL):
        return f"no value fits it: {_short(found[1])}"
    return _short(reason[:1].lower() + reason[1:])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST else f"{line[:_MOST]}..."
