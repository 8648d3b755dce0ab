"""The grammar of calls, in each format, against what it must and must not let pass."""

import pytest
from fake_prompts import ByteTokenizer

from deployer.generation.generation_config import InvalidFieldError
from deployer.generation.tool_grammar import special_ids, tool_grammar
from deployer.prompt.tool_format import ToolFormat, tool_formats
from engines.messages import Vocabulary
from engines.sampling.grammar import Grammars

FORMATS = tool_formats()
BYTES = Vocabulary(
    tokens=(*(bytes([byte]) for byte in range(256)), b"<eos>", b"<img>"),
    special_ids=(256, 257),
    end_ids=(256,),
)
MOVE = {
    "name": "move",
    "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
}
STOP = {"name": "stop", "parameters": None}


def passes(grammar: str, text: str) -> bool:
    state = Grammars(BYTES, vocab=258).open(grammar)
    ids = [*text.encode(), 256]
    return all(
        int.from_bytes(state.mask(ids[:end]), "little") >> ids[end] & 1 and state.fault is None
        for end in range(len(ids))
    )


def written(form: ToolFormat, *objects: str) -> str:
    """Return calls as the model writes them."""
    start, close = form.marker + form.open, form.close
    if form.each:
        return form.between.join(start + one + close for one in objects)
    return start + form.between.join(objects) + close


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_required_call_is_one_of_the_functions_with_its_arguments(name: str) -> None:
    form = FORMATS[name]
    move = f'{{"name": "move", "{form.arguments}": {{"x": 3}}}}'
    stop = f'{{"name": "stop", "{form.arguments}": {{}}}}'
    one = tool_grammar([MOVE, STOP], form, ByteTokenizer(), several=False, may_write_text=False)
    assert passes(one, written(form, move))
    assert passes(one, written(form, stop))
    assert not passes(one, written(form, move, stop))
    assert not passes(one, written(form, move.replace("3", '"3"')))
    assert not passes(one, written(form, move.replace("move", "fly")))
    assert not passes(one, "Hello")
    several = tool_grammar([MOVE, STOP], form, ByteTokenizer(), several=True, may_write_text=False)
    assert passes(several, written(form, move, stop, move))


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_free_answer_may_be_text_or_calls(name: str) -> None:
    form = FORMATS[name]
    free = tool_grammar([MOVE], form, ByteTokenizer(), several=True, may_write_text=True)
    assert passes(free, "Hello, there is nothing to do.")
    move = f'{{"name": "move", "{form.arguments}": {{"x": 3}}}}'
    assert passes(free, written(form, move))
    assert not passes(free, written(form, move.replace("3", '"3"')))
    if form.marker:
        assert passes(free, f"Let me see. {written(form, move, move)}")
        assert not passes(free, f"Let me see. {written(form, move.replace('move', 'fly'))}")
        assert passes(free, f"Not even {form.marker[:-1]} is one")


def test_blanks_in_a_call_come_to_an_end() -> None:
    form = FORMATS["llama3"]
    grammar = tool_grammar([STOP], form, ByteTokenizer(), several=False, may_write_text=False)
    assert passes(grammar, '{"name":' + " " * 32 + '"stop", "parameters": {}}')
    assert not passes(grammar, '{"name":' + " " * 33 + '"stop", "parameters": {}}')


def test_a_marker_that_is_a_control_token_is_written_by_its_id() -> None:
    class Marked(ByteTokenizer):
        def encode(self, text: str, *, special: bool) -> list[int]:
            ids: list[int] = []
            for place, piece in enumerate(text.split("<img>")):
                ids += [*([257] if place else []), *piece.encode()]
            return ids

    form = ToolFormat(
        told_by="", marker="<img>", open="\n", close="", between="", each=True, arguments="arguments",
        id_length=None,
    )  # fmt: skip
    grammar = tool_grammar([STOP], form, Marked(), several=False, may_write_text=False)
    assert "<[257]>" in grammar
    assert special_ids(form, Marked()) == {257}


def test_a_schema_that_cannot_be_enforced_is_refused_by_function_place_and_keyword() -> None:
    parameters = {"type": "object", "properties": {"x": {"type": "array", "items": {"not": {}}}}}
    odd = {"name": "odd", "parameters": parameters}
    with pytest.raises(InvalidFieldError) as caught:
        tool_grammar([MOVE, odd], FORMATS["hermes"], ByteTokenizer(), several=False, may_write_text=False)
    assert str(caught.value) == (
        "`tools`: function `odd`: `parameters.properties.x.items`: keyword `not` cannot be enforced; "
        "leave it out"
    )


def test_functions_that_do_not_go_together_are_refused_without_the_text_of_the_grammar() -> None:
    twice = [
        {"name": name, "parameters": {"$id": "urn:a", "$defs": {name: {}}, "$ref": f"#/$defs/{name}"}}
        for name in ("x", "y")
    ]
    with pytest.raises(InvalidFieldError) as caught:
        tool_grammar(twice, FORMATS["hermes"], ByteTokenizer(), several=False, may_write_text=False)
    assert "cannot be enforced together" in str(caught.value)
    assert "object:" not in str(caught.value) and "\n" not in str(caught.value)


def test_calls_that_fail_as_they_begin_are_refused_before_any_text() -> None:
    wide = {
        "anyOf": [
            {
                "type": "object",
                "properties": {f"k{key}_{kind}": {"type": "string"} for key in range(20)},
                "additionalProperties": {"type": "string", "maxLength": kind + 1},
            }
            for kind in range(120)
        ]
    }
    with pytest.raises(InvalidFieldError, match="`tools`: the grammar cannot be followed after") as caught:
        tool_grammar(
            [{"name": "wide", "parameters": wide}], FORMATS["hermes"], ByteTokenizer(), several=True,
            may_write_text=True,
        )  # fmt: skip
    assert caught.value.code == "grammar_failed"


def test_references_in_a_schema_mean_its_own_definitions() -> None:
    form = FORMATS["hermes"]
    functions = [
        {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"at": {"$ref": "#/$defs/Point"}},
                "required": ["at"],
                "$defs": {"Point": {"type": kind}},
            },
        }
        for name, kind in (("move", "integer"), ("say", "string"))
    ]
    grammar = tool_grammar(functions, form, ByteTokenizer(), several=False, may_write_text=False)
    for name, at, fits in (("move", "3", True), ("say", '"3"', True), ("say", "3", False)):
        call = f'{{"name": "{name}", "arguments": {{"at": {at}}}}}'
        assert passes(grammar, written(form, call)) is fits
