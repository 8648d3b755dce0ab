"""From `response_format` to a grammar, and what is refused before anything runs."""

from typing import Any

import pytest
from printable import END_ID, PRINTABLE, ids_of

from deployer.generation.generation_config import InvalidFieldError
from deployer.generation.response_format import grammar_of
from engines.sampling.grammar import Grammars


def follows(form: dict[str, Any], text: str) -> bool:
    """Whether a text is a whole answer in this form."""
    grammar = grammar_of(form)
    assert grammar is not None
    state = Grammars(PRINTABLE, vocab=96).open(grammar)
    for end in range(len(text) + 1):
        mask = int.from_bytes(state.mask(ids_of(text[:end])), "little")
        wanted = ids_of(text)[end] if end < len(text) else END_ID
        if not mask >> wanted & 1:
            return False
    return True


def schema(**schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def test_text_is_any_text() -> None:
    assert grammar_of(None) is None
    assert grammar_of({"type": "text"}) is None


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ({"type": "json_object"}, '{"a": [1, null]}', "[1]"),
        (schema(type="integer"), "-17", "1.5"),
        (schema(enum=["a", "b"]), '"b"', '"c"'),
        (schema(type="array", items={"type": "boolean"}), "[true, false]", "[1]"),
        ({"type": "json_schema", "json_schema": {"name": "any"}}, '{"a": 1}', "1"),
        ({"type": "regex", "regex": "[0-9]{3}"}, "123", "12"),
        ({"type": "regex_schema", "regex_schema": "call me [A-Za-z]{1,10}"}, "call me Al", "call Al"),
        ({"type": "grammar", "grammar": 'root ::= "yes" | "no"'}, "yes", "maybe"),
        ({"type": "grammar", "grammar": 'start: "yes" | "no"'}, "no", "yesno"),
    ],
)
def test_a_form_takes_what_it_means_and_nothing_else(form: dict[str, Any], good: str, bad: str) -> None:
    assert follows(form, good)
    assert not follows(form, bad)


def test_blanks_between_the_parts_of_json_come_to_an_end() -> None:
    assert follows({"type": "json_object"}, '{"a":' + " " * 32 + "1}")
    assert not follows({"type": "json_object"}, '{"a":' + " " * 33 + "1}")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"type": "xml"}, "must be one of `text`, `json_object`"),
        ({"type": "json_schema"}, "needs `json_schema`, an object"),
        ({"type": "json_schema", "json_schema": {"schema": 3}}, "`json_schema.schema` must be an object"),
        ({"type": "regex"}, "needs `regex`, a string"),
        (schema(type="objec"), "`json_schema.schema`: `type` is `objec`: must be `array`"),
        (
            schema(type="object", properties={"a": {"items": {"not": {}}}}),
            "`json_schema.schema.properties.a.items`: keyword `not` cannot be enforced; leave it out",
        ),
        (schema(**{"$ref": "http://localhost/secret"}), "schemas are not fetched; put it under `$defs`"),
        ({"type": "regex", "regex": "(a"}, "unclosed group"),
        ({"type": "grammar", "grammar": "root ::= ("}, "`response_format`: Failed to convert"),
    ],
)
def test_what_does_not_compile_says_why(form: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        grammar_of(form)
    assert message in str(caught.value)
    assert caught.value.field == "response_format"
