"""`response_format`: from the form that an answer must have to the grammar that the engine follows.

    {"type": "text"}                                              any text
    {"type": "json_object"}                                       a JSON object
    {"type": "json_schema", "json_schema": {"schema": {...}}}     JSON of a schema; keywords that cannot be
                                                                  enforced are refused, `strict` or not
    {"type": "regex", "regex": "[A-Z]{3}"}                        LMDeploy's `regex_schema` is the same
    {"type": "grammar", "grammar": "root ::= ..."}                GBNF/EBNF, or Lark (llguidance's dialect)

A form that does not compile is refused before anything runs.
"""

import json
from collections.abc import Mapping
from typing import Any

from deployer.generation.field_names import PYTHON_NAMES, FieldNames
from deployer.generation.generation_config import InvalidFieldError
from deployer.generation.schema_faults import schema_fault

TYPES = ("text", "json_object", "json_schema", "regex", "regex_schema", "grammar")
# Between the parts of a JSON text. A small model would else go on with blanks until its answer is full.
JSON_OPTIONS: Any = {"whitespace_pattern": r"[ \n\t]{0,32}"}


def grammar_of(response_format: Mapping[str, Any] | None, *, names: FieldNames = PYTHON_NAMES) -> str | None:
    """Return the grammar, None for any text. Raises InvalidFieldError for one that does not compile."""
    if response_format is None:
        return None
    try:
        return _grammar(response_format, names)
    except _FormError as error:
        raise InvalidFieldError(f"`{names.form}`: {error}", field=names.form) from error


class _FormError(ValueError):
    """What is wrong inside the form."""


def _grammar(response_format: Mapping[str, Any], names: FieldNames) -> str | None:
    kind = response_format.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return _schema_grammar({"type": "object"}, at=names.schema)
    if kind == "json_schema":
        schema = _part(response_format, "json_schema", Mapping).get("schema")
        if schema is not None and not isinstance(schema, Mapping | bool):
            raise _FormError(f"`{names.schema}` must be an object")
        return _schema_grammar({"type": "object"} if schema is None else schema, at=names.schema)
    if kind in ("regex", "regex_schema"):
        return _checked(_grammar_from("regex", _part(response_format, kind, str)))
    if kind == "grammar":
        return _checked(_grammar_from("grammar", _part(response_format, kind, str)))
    raise _FormError(f"`type` is {kind!r}: must be one of {', '.join(f'`{one}`' for one in TYPES)}")


def _schema_grammar(schema: Mapping[str, Any] | bool, *, at: str) -> str:
    from llguidance import LLMatcher

    whole = schema if isinstance(schema, Mapping) else {"anyOf": [{}]} if schema else {"anyOf": []}
    try:
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(whole), JSON_OPTIONS)
    except (ValueError, TypeError) as error:
        raise _FormError(str(error)) from error
    if (refused := LLMatcher.validate_grammar(grammar)) != "":
        raise _FormError(schema_fault(schema, at=at) or refused)
    return grammar


def _grammar_from(kind: Any, text: str) -> str:
    from llguidance import grammar_from

    try:
        return grammar_from(kind, text)
    except ValueError as error:
        raise _FormError(str(error)) from error


def _checked(grammar: str) -> str:
    from llguidance import LLMatcher

    fault = LLMatcher.validate_grammar(grammar)
    if fault:
        raise _FormError(f"does not compile: {' '.join(fault.split())}")
    return grammar


def _part(response_format: Mapping[str, Any], name: str, kind: Any) -> Any:
    value = response_format.get(name)
    if not isinstance(value, kind):
        words = "a string" if kind is str else "an object"
        raise _FormError(f"type `{response_format['type']}` needs `{name}`, {words}")
    return value
