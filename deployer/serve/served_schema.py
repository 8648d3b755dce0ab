"""What the schemas of bodies say of the one model that is served: its vocabulary, its session, its tools.

The bodies' classes hold for every model; these rules are checked where the tokenizer and the template are.
"""

from collections.abc import Iterator
from typing import Any

from deployer.serve.field_types import ANSWER_TOKENS, TOKEN_ID, TOKEN_ID_KEYS

Schemas = dict[str, Any]  # name of a body or of a part of one -> its JSON schema

_NULL: Schemas = {"type": "null"}
_NO_TOOLS: Schemas = {"tools": {"anyOf": [{"type": "array", "maxItems": 0}, _NULL]}}
_NO_CHOICE: Schemas = {"tool_choice": {"enum": ["none", None]}, "parallel_tool_calls": _NULL}
_NO_CALLS: Schemas = {"tool_calls": _NULL, "tool_call_id": _NULL}
_COUNTED_ONLY = "PromptBody"  # what is only counted may choose among no tools
_NAMED_CHOICES = ("CountBody", "MessagesBody")  # their choice is an object
_OF_CALLS = (  # items and blocks of an input that are about calls
    "CallItem",
    "CallOutputItem",
    "ToolResultBlock",
    "ToolUseBlock",
)


def bound_numbers(schemas: Schemas, *, num_token_ids: int, session_len: int) -> None:
    """Let token ids end where the vocabulary does, and answers leave a token of the session to the prompt."""
    for schema in _each_within(schemas):
        kind = schema.get("format")
        if kind == TOKEN_ID:
            schema["exclusiveMaximum"] = num_token_ids
        elif kind == TOKEN_ID_KEYS:
            schema["propertyNames"] = {"pattern": f"^({numbers_below(num_token_ids)})$"}
        elif kind == ANSWER_TOKENS:
            schema["exclusiveMaximum"] = session_len


def leave_out_tools(schemas: Schemas) -> None:
    """Let no body hold a tool, a call or the result of one: the template cannot write them."""
    for name, schema in schemas.items():
        properties = schema.get("properties", {})
        rules = _NO_TOOLS | _NO_CALLS | ({} if name == _COUNTED_ONLY else _NO_CHOICE)
        if name in _NAMED_CHOICES:
            rules |= {"tool_choice": _NULL}
        properties.update({field: rule for field, rule in rules.items() if field in properties})
    roles = schemas["Message"]["properties"]["role"]["enum"]
    roles.remove("tool")
    for schema in _each_within(schemas):
        if "oneOf" in schema:
            schema["oneOf"] = [one for one in schema["oneOf"] if _name_of(one) not in _OF_CALLS]


def numbers_below(end: int) -> str:
    """Return a regex for the numbers from 0 to `end` - 1; one with fewer digits may begin with zeros.

    Below 258: `[0-9]{1,2}|[0-1][0-9]{2}|2[0-4][0-9]{1}|25[0-7]`.
    """
    last = str(end - 1)
    choices = [f"[0-9]{{1,{len(last) - 1}}}"] if len(last) > 1 else []
    for at, digit in enumerate(last):
        free = len(last) - at - 1  # digits behind one that is lower than that of the last number
        most = int(digit) - 1 if free else int(digit)
        if most >= 0:
            choices.append(f"{last[:at]}[0-{most}]" + (f"[0-9]{{{free}}}" if free else ""))
    return "|".join(choices)


def _each_within(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping in a schema, the outermost first."""
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from _each_within(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _each_within(part)


def _name_of(reference: dict[str, Any]) -> str:
    return str(reference.get("$ref", "")).rpartition("/")[2]
