"""What templates that know tools write: tools, calls and results, held to texts by hand (docs/server.md)."""

import json
from typing import Any

import pytest

from deployer.assets import resource_dir
from deployer.errors import ConfigError
from deployer.prompt.chat import ChatTemplate
from deployer.prompt.messages import Message, TextPart, ToolCall
from deployer.prompt.tool_format import check_tools, told_format, tool_formats
from engines.errors import RequestError

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "warm", "parameters": {"type": "object"}}}
JSON = json.dumps(TOOL)
TURNS = [
    Message.of("user", "How warm?"),
    Message(
        role="assistant", parts=(),
        tool_calls=(ToolCall(id="callid001", name="warm", arguments={"at": "Åre"}),),
    ),
    Message(role="tool", parts=(TextPart(text="-3"),), tool_call_id="callid001"),
]  # fmt: skip


def rendered(name: str, *, system: str | None = None) -> str:
    path = resource_dir("chat_templates") / f"{name}.jinja"
    template = ChatTemplate(path, bos_token="<s>", eos_token="</s>", origin="test")
    found = template.render(TURNS, system=system, tools=[TOOL], add_generation_prompt=True)
    return "".join(found.pieces)


def test_qwen_lists_tools_in_the_system_turn_and_results_in_the_user_s() -> None:
    assert rendered("qwen", system="Be brief.") == (
        "<|im_start|>system\nBe brief.\n\n# Tools\n\nYou may call one or more functions to assist with the "
        "user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        f"{JSON}\n</tools>\n\nFor each function call, return a json object with function name and arguments "
        "within <tool_call></tool_call> XML tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\nHow warm?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "warm", "arguments": {"at": "Åre"}}\n</tool_call>'
        "<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n-3\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_internlm2_gives_tools_and_results_turns_of_the_plugin() -> None:
    assert rendered("internlm2", system="Be brief.") == (
        "<s><|im_start|>system\nBe brief.<|im_end|>\n"
        f"<|im_start|>system name=<|plugin|>\n[{json.dumps(TOOL['function'])}]<|im_end|>\n"
        "<|im_start|>user\nHow warm?<|im_end|>\n"
        '<|im_start|>assistant\n<|action_start|><|plugin|>\n{"name": "warm", "parameters": {"at": "Åre"}}'
        "<|action_end|><|im_end|>\n"
        "<|im_start|>environment name=<|plugin|>\n-3<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_llama3_puts_tools_in_front_of_the_first_question() -> None:
    text = rendered("llama3")
    assert text.startswith(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nGiven the following functions, please respond"
    )
    assert f"{json.dumps(TOOL, indent=4)}\n\nHow warm?<|eot_id|>" in text
    assert text.endswith(
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
        '{"name": "warm", "parameters": {"at": "Åre"}}<|eot_id|>'
        "<|start_header_id|>ipython<|end_header_id|>\n\n-3<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_mistral_puts_tools_in_front_of_the_last_question_and_ids_beside_calls() -> None:
    assert rendered("mistral") == (
        f"<s>[AVAILABLE_TOOLS] [{JSON}][/AVAILABLE_TOOLS][INST] How warm? [/INST]"
        '[TOOL_CALLS] [{"name": "warm", "arguments": {"at": "Åre"}, "id": "callid001"}]</s>'
        '[TOOL_RESULTS] {"content": "-3", "call_id": "callid001"}[/TOOL_RESULTS]'
    )


@pytest.mark.parametrize("name", ["qwen", "internlm2", "llama3", "mistral"])
def test_every_template_with_tools_names_a_format(name: str) -> None:
    path = resource_dir("chat_templates") / f"{name}.jinja"
    assert ChatTemplate(path, bos_token="", eos_token="", origin="test").tool_format is not None


def test_a_format_that_is_none_is_a_fault_of_the_template(tmp_path: Any) -> None:
    path = tmp_path / "own.jinja"
    path.write_text(
        '{%- set tool_format = "herms" -%}{%- from "_text.jinja" import text_of -%}'
        "{% for one in messages %}{{ text_of(one.content) }}{% endfor %}"
    )
    with pytest.raises(ConfigError, match="`tool_format` is `herms`: must be one of `hermes`"):
        ChatTemplate(path, bos_token="", eos_token="", origin="chat_template.file")


def test_a_checkpoint_s_template_tells_its_format() -> None:
    formats = tool_formats()
    assert told_format("{% if tools %}<tool_call>{% endif %}") == formats["hermes"]
    assert told_format("{% if tools %}[TOOL_CALLS]{% endif %}") == formats["mistral"]
    assert told_format("<tool_call>") is None
    assert told_format("{% if tools %}{% endif %}") is None


def test_a_template_without_a_format_takes_no_tools() -> None:
    check_tools(TURNS[:1], (), None, origin="o")
    for messages, tools in ((TURNS[:1], (TOOL,)), (TURNS, ())):
        with pytest.raises(RequestError, match=r"\(o\) knows no tools"):
            check_tools(messages, tools, None, origin="o")
