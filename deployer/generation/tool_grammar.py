"""The grammar that makes an answer call tools: markers as the model writes them, arguments by schema."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from deployer.generation.field_names import PYTHON_NAMES, FieldNames
from deployer.generation.generation_config import InvalidFieldError
from deployer.generation.response_format import JSON_OPTIONS
from deployer.generation.schema_faults import schema_fault
from deployer.prompt.tokenizer import Tokenizer
from deployer.prompt.tool_format import ToolFormat
from engines.errors import RequestError
from engines.sampling.grammar import compiled

Function = Mapping[str, Any]  # {"name": ..., "parameters": JSON schema or None}


def tool_grammar(
    functions: Sequence[Function],
    form: ToolFormat,
    tokenizer: Tokenizer,
    *,
    several: bool,
    may_write_text: bool,
    names: FieldNames = PYTHON_NAMES,
) -> str:
    """Return the grammar of an answer of calls of these functions.

    `several`: more than one call may come. `may_write_text`: an answer without a call, or text in front of
    one, may come too; a call that is begun is held to its schema all the same. Raises InvalidFieldError for a
    schema that cannot be enforced.
    """
    marker, close, between = (
        _written(text, tokenizer) for text in (form.marker + form.open, form.close, form.between)
    )
    more = f"{close} {between} {marker}" if form.each else between
    calls = f"object ({more} object)* {close}" if several else f"object {close}"
    schema = _schema(functions, form)
    lines = [f"object: %json {json.dumps(schema)}", f"calls: {calls}"]
    if not may_write_text:
        lines += [f"start: {marker} calls"]
    elif not form.marker:
        lines += ["start: calls | TEXT", "TEXT: /[^{](?s:.*)/"]
    elif marker.startswith("<["):  # no text can hold a control token
        lines += [f"start: TEXT? {marker} calls | TEXT", "TEXT: /(?s:.+)/"]
    else:
        lines += [
            "start: lead calls | TEXT",
            f"lead[suffix={_quoted((form.marker + form.open).encode())}]: /(?s:.*)/",
        ]
        lines += [f"TEXT: /(?s:.+)/ & ~/(?s:.*){_pattern(form.marker)}(?s:.*)/"]
    return _checked("\n".join(sorted(lines, reverse=True)), schema, functions, at=names.parameters)


def _checked(lines: str, schema: Mapping[str, Any], functions: Sequence[Function], *, at: str) -> str:
    """Return the grammar. Raises InvalidFieldError, which names the function and the part of its schema.

    `at`: what the client calls the schema of a function.
    """
    from llguidance import LLMatcher, grammar_from

    grammar = grammar_from("lark", lines)
    refused = LLMatcher.validate_grammar(grammar)
    if not refused:
        _try_calls(schema)
        return grammar
    for function in functions:
        fault = schema_fault(function.get("parameters") or {}, at=at)
        if fault is not None:
            raise InvalidFieldError(f"`tools`: function `{function['name']}`: {fault}", field="tools")
    why = refused.partition("\n")[0]  # what follows is the text of the grammar, which is ours
    raise InvalidFieldError(f"`tools`: the functions cannot be enforced together: {why}", field="tools")


def _try_calls(schema: Mapping[str, Any]) -> None:
    """Raise InvalidFieldError for calls that fail as they begin, which may be long after a stream began."""
    from llguidance import LLMatcher, LLTokenizer

    grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
    of_bytes = LLTokenizer("byte")
    try:
        compiled(
            of_bytes, grammar, end_ids=(of_bytes.eos_token,), blank_ids=b"\t\n\r ", vocab=of_bytes.vocab_size
        )
    except RequestError as error:
        raise InvalidFieldError(f"`tools`: {error}", field="tools", code=error.code) from error


def special_ids(form: ToolFormat, tokenizer: Tokenizer) -> frozenset[int]:
    """Return the control tokens that the format is written with; they must not be left out of the text."""
    ids = {
        token_id
        for text in (form.marker, form.open, form.close, form.between)
        for token_id in tokenizer.encode(text, special=False)
    }
    return frozenset(ids) & tokenizer.special_ids


def _schema(functions: Sequence[Function], form: ToolFormat) -> dict[str, Any]:
    calls = [_call_schema(function, form, number) for number, function in enumerate(functions)]
    return {"anyOf": calls, "x-guidance": JSON_OPTIONS}


def _call_schema(function: Function, form: ToolFormat, number: int) -> dict[str, Any]:
    parameters = function.get("parameters") or {"type": "object"}
    # An id of its own makes `#/$defs/...` in it mean its own definitions, as where it stands alone.
    own = {"$id": f"tool:{number}", **parameters}
    return {
        "type": "object",
        "properties": {
            "name": {"const": function["name"]},
            form.arguments: own,
        },
        "required": ["name", form.arguments],
        "additionalProperties": False,
    }


def _written(text: str, tokenizer: Tokenizer) -> str:
    """Return the Lark terms of a text: control tokens by their id, all else as a string."""
    terms: list[str] = []
    plain = b""
    for token_id in tokenizer.encode(text, special=False) if text else []:
        if token_id in tokenizer.special_ids:
            terms += [_quoted(plain), f"<[{token_id}]>"]
            plain = b""
        else:
            plain += tokenizer.token_bytes(token_id)
    if not any(term.startswith("<[") for term in terms):
        return _quoted(text.encode())
    return " ".join(term for term in (*terms, _quoted(plain)) if term)


def _pattern(text: str) -> str:
    """Return a regular expression that matches a text alone."""
    return "".join(f"\\{one}" if one in r"\.+*?()|[]{}^$/-&~#" else one for one in text)


def _quoted(plain: bytes) -> str:
    return json.dumps(plain.decode()) if plain else ""
