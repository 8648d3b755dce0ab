"""The templates of Phi-3-vision, Qwen-VL, XComposer and MiniCPM-V against the strings of upstream's code."""

import json
import re
from typing import Any

import pytest
from prompt_setup import FIXTURES

from deployer.assets import resource_dir
from deployer.prompt.chat import ChatTemplate
from deployer.prompt.messages import Message

PICTURE = Message.of("user", "What is in the picture?", b"picture")
CONVERSATIONS = {
    "single_text": [Message.of("user", "What is two plus two?")],
    "single_image": [PICTURE],
    "multi": [PICTURE, Message.of("assistant", "A red cube."), Message.of("user", "And behind it?")],
}
XCOMPOSER = json.loads((FIXTURES / "xcomposer2d5" / "prompts.json").read_text("utf-8"))
QWEN = json.loads((FIXTURES / "qwen_vl" / "prompts.json").read_text("utf-8"))


def pieces(name: str, messages: list[Message], system: str | None = None) -> tuple[str, ...]:
    path = resource_dir("chat_templates") / f"{name}.jinja"
    template = ChatTemplate(path, bos_token="<s>", eos_token="</s>", origin=f"chat_template.name={name}")
    return template.render(messages, system=system, add_generation_prompt=True).pieces


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize(
    ("name", "family", "placeholder"),
    [("phi-3", "phi3_vision", "<|image_1|>"), ("llama3", "minicpm_v", "(<image>./</image>)")],
)
def test_a_prompt_is_the_references(name: str, family: str, placeholder: str, conversation: str) -> None:
    reference = json.loads((FIXTURES / family / "prompts.json").read_text("utf-8"))
    found = pieces(name, CONVERSATIONS[conversation])
    assert placeholder.join(found) == reference[conversation]


def turns(history: Any, query: str, placeholder: str) -> list[Message]:
    """Return the messages that upstream's chat got; pictures where their text has the placeholder."""
    messages = []
    for text, answer in [*(history or []), (query, None)]:
        plain, count = re.subn(placeholder, "<image>", text)
        messages.append(Message.of("user", plain, *[b"picture"] * count))
        if answer is not None:
            messages.append(Message.of("assistant", answer))
    return messages


@pytest.mark.parametrize("case", XCOMPOSER["chat_2d5"], ids=lambda case: case["query"][:9])
def test_xcomposer2d5_prompts_are_the_references(case: dict[str, Any]) -> None:
    messages = turns(case["history"], case["query"], "<ImageHere>")
    if case["images"] and "<ImageHere>" not in case["query"] and not case["history"]:
        messages = [Message.of("user", case["query"], b"picture")]  # upstream puts it in front of everything
    assert "<ImageHere>".join(pieces("internlm-xcomposer2d5", messages)) == case["prompt"]


@pytest.mark.parametrize("case", XCOMPOSER["chat_2_vl"], ids=lambda case: case["query"][:9])
def test_xcomposer2_prompts_are_the_references(case: dict[str, Any]) -> None:
    messages = turns(case["history"], case["query"], "<ImageHere>")
    assert "<ImageHere>".join(pieces("internlm-xcomposer2", messages)) == case["prompt"]
    assert "灵笔" not in "".join(pieces("internlm-xcomposer2", messages, system="Be brief."))
    shown = Message.of("user", "Describe it.", b"picture")
    assert pieces("internlm-xcomposer2", [shown], system="")[0].endswith("user\n")


def test_several_pictures_of_xcomposer2d5_are_labelled() -> None:
    messages = [Message.of("user", "compare", b"a", b"b")]
    assert pieces("internlm-xcomposer2d5", messages)[0].endswith("user\nImage1 ")
    assert pieces("internlm-xcomposer2d5", messages)[1:] == (
        "; Image2 ",
        "; compare[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\n",
    )


@pytest.mark.parametrize("case", QWEN, ids=lambda case: case["query"][:12])
def test_qwen_vl_prompts_are_the_references(case: dict[str, Any]) -> None:
    tag = r"Picture \d+: <img>[^<]*</img>\n"
    messages = []
    for text, answer in [*(case["history"] or []), (case["query"], None)]:
        plain, count = re.subn(tag, "", text)
        messages.append(Message.of("user", plain, *[b"picture"] * count))
        if answer is not None:
            messages.append(Message.of("assistant", answer))
    expected = re.sub(r"<img>[^<]*</img>", "<img>[]</img>", case["raw_text"])
    assert "[]".join(pieces("qwen", messages)) == expected
