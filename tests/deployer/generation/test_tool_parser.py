"""Calls in answers, however they are written and wherever the text is cut."""

from typing import Any

import pytest

from deployer.generation.tool_parser import ToolParser
from deployer.prompt.tool_format import tool_formats

FORMATS = tool_formats()


def parsed(
    name: str, text: str, size: int, *, is_cut: bool = False, must_call: bool = False
) -> tuple[str, list[tuple[str, str]]]:
    """Return content and (name, arguments) of each call of an answer that comes in stretches of `size`."""
    parser = ToolParser(FORMATS[name], must_call=must_call)
    content, calls = "", dict[int, list[Any]]()
    found = [parser.feed(text[at : at + size]) for at in range(0, len(text), size)]
    for delta in (*found, parser.finish(is_cut=is_cut)):
        content += delta.content
        for one in delta.calls:
            if one.name is not None:
                assert one.index not in calls and one.id is not None, "a call is named once, at its beginning"
                calls[one.index] = [one.name, ""]
            calls[one.index][1] += one.arguments
    return content, [(name, arguments) for name, arguments in calls.values()]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("form", "text", "content", "calls"),
    [
        (
            "hermes",
            'Sure.\n<tool_call>\n{"name": "f", "arguments": {"x": "a}\\"{é"}}\n</tool_call>\n'
            '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>\n',
            "Sure.",
            [("f", '{"x": "a}\\"{é"}'), ("g", "{}")],
        ),
        ("hermes", '<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
        ("hermes", '<tool_call>\n{"name":"f","arguments":{"x":[{"y":2}]} }', "", [("f", '{"x":[{"y":2}]}')]),
        ("mistral", '[TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}}]', "", [("f", '{"x": 1}')]),
        (
            "mistral",
            '[TOOL_CALLS][{"arguments": {"y": [1]}, "name": "g"}, {"name": "f", "arguments": {}}]',
            "",
            [("g", '{"y": [1]}'), ("f", "{}")],
        ),
        (
            "llama3",
            '{"name": "f", "parameters": {"x": 1}}; {"name": "g", "parameters": "{\\"a\\": 1}"}',
            "",
            [("f", '{"x": 1}'), ("g", '{"a": 1}')],
        ),
        (
            "internlm2",
            'Let me look.<|action_start|><|plugin|>\n{"name": "f", "parameters": {"x": 1}}<|action_end|>\n',
            "Let me look.",
            [("f", '{"x": 1}')],
        ),
    ],
)  # fmt: skip
def test_calls_are_read(form: str, text: str, content: str, calls: list[tuple[str, str]], size: int) -> None:
    assert parsed(form, text, size) == (content, calls)


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("hermes", "No call at all, not even <tool_cal"),
        ("hermes", "They write <tool_call> in front of it"),
        ("hermes", '<tool_call>\n{"nam'),
        ("hermes", '<tool_call>\n{"x": 1}\n</tool_call>'),
        ("llama3", 'An answer with {"name": "f"} in it'),
        ("llama3", "{not JSON}"),
        ("mistral", "[TOOL_CALLS]"),
    ],
)
def test_what_is_no_call_is_content(form: str, text: str, size: int) -> None:
    assert parsed(form, text, size) == (text, [])


def test_arguments_are_told_as_they_are_written() -> None:
    parser = ToolParser(FORMATS["hermes"], must_call=False)
    assert parser.feed('<tool_call>\n{"name": "f", "argu').calls[0].name == "f"
    assert [one.arguments for one in parser.feed('ments": {"x": [1, ').calls] == ['{"x": [1, ']
    assert [one.arguments for one in parser.feed("2").calls] == ["2"]


def test_a_call_that_is_cut_keeps_what_was_written() -> None:
    assert parsed("hermes", '<tool_call>\n{"name": "f", "arguments": {"x": [1', 5) == (
        "",
        [("f", '{"x": [1')],
    )


@pytest.mark.parametrize("must_call", [False, True])
@pytest.mark.parametrize("form", ["hermes", "internlm2", "mistral"])
def test_no_cut_of_an_answer_of_calls_shows_how_calls_are_written(form: str, must_call: bool) -> None:
    known = FORMATS[form]
    call = f'{{"name": "f", "{known.arguments}": {{"x": [1]}}}}'
    between = known.close + known.between + known.marker + known.open if known.each else known.between
    text = known.marker + known.open + call + between + call + known.close
    for end in range(0 if must_call else len(known.marker), len(text)):
        content, calls = parsed(form, text[:end], 3, is_cut=True, must_call=must_call)
        assert content == "", text[:end]
        assert all('{"x": [1]}'.startswith(arguments) for _, arguments in calls)


def test_a_cut_answer_without_a_marker_is_content_unless_it_must_be_a_call() -> None:
    for must_call, content in ((False, '{"na'), (True, "")):
        assert parsed("llama3", '{"na', 2, is_cut=True, must_call=must_call) == (content, [])


def test_text_that_is_cut_where_a_marker_could_begin_is_content() -> None:
    assert parsed("hermes", "It is <to", 2, is_cut=True) == ("It is <to", [])


def test_ids_are_as_long_as_the_model_was_trained_with() -> None:
    for form, length in (("mistral", 9), ("hermes", 29)):
        parser = ToolParser(FORMATS[form], must_call=False)
        call = parser.feed(f'{FORMATS[form].marker}{{"name": "f"').calls or parser.feed(",").calls
        assert call[0].id is not None and len(call[0].id) == length
