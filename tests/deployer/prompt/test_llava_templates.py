"""The templates of LLaVA, Yi-VL, DeepSeek-VL and Mini-Gemini against the strings of upstream's code."""

import json

import pytest
from prompt_setup import FIXTURES

from deployer.assets import resource_dir
from deployer.prompt.chat import ChatTemplate
from deployer.prompt.messages import Message
from engines.errors import RequestError

# ours, the fixture, upstream's name, the placeholder that upstream writes
TEMPLATES = {
    "llava-v1": ("llava", "llava_v1", "<image>"),
    "llava-mistral": ("llava", "mistral_instruct", "<image>"),
    "llava-chatml": ("llava", "chatml_direct", "<image>"),
    "vicuna": ("mini_gemini", "vicuna_v1", "<image>"),
    "mini-gemini-vicuna": ("mini_gemini", "vicuna_v1", "<image>"),
    "yi-vl": ("yi_vl", "mm_default", "<image_placeholder>"),
    "deepseek-vl": ("deepseek_vl", "deepseek", "<image_placeholder>"),
}
PICTURE = Message.of("user", "What is in the picture?", b"picture")
CONVERSATIONS = {
    "single_text": [Message.of("user", "What is two plus two?")],
    "single_image": [PICTURE],
    "multi": [PICTURE, Message.of("assistant", "A red cube."), Message.of("user", "And behind it?")],
}


def shipped(name: str) -> ChatTemplate:
    path = resource_dir("chat_templates") / f"{name}.jinja"
    return ChatTemplate(path, bos_token="<s>", eos_token="</s>", origin=f"chat_template.name={name}")


def prompt(name: str, *messages: Message, system: str | None = None) -> str:
    template = shipped(name)
    assert template.image_token == TEMPLATES[name][2]
    rendered = template.render(messages, system=system, add_generation_prompt=True)
    return TEMPLATES[name][2].join(rendered.pieces)


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_prompt_is_the_references(name: str, conversation: str) -> None:
    folder, upstream, _ = TEMPLATES[name]
    reference = json.loads((FIXTURES / folder / "prompts.json").read_text("utf-8"))["templates"][upstream]
    assert prompt(name, *CONVERSATIONS[conversation]) == reference[conversation]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_system_text_of_the_config_and_one_of_the_client_write_the_same(name: str) -> None:
    message = CONVERSATIONS["single_text"]
    ours = prompt(name, *message, system="Be brief.")
    assert "Be brief." in ours
    assert prompt(name, Message.of("system", "Be brief."), *message, system="other") == ours
    plain = prompt(name, *message, system="")
    assert "Be brief." not in plain and len(plain) <= len(prompt(name, *message))


@pytest.mark.parametrize("name", sorted(set(TEMPLATES) - {"llava-chatml"}))
def test_a_system_message_in_the_middle_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="at the beginning only"):
        prompt(name, PICTURE, Message.of("system", "Be brief."))


def test_mini_gemini_numbers_the_pictures_of_a_prompt_that_has_several() -> None:
    text = prompt("mini-gemini-vicuna", Message.of("user", "Compare.", b"one", b"two"))
    assert text.endswith("USER: Image 1:<image>\nImage 2:<image>\nCompare. ASSISTANT:")
    assert "Image 1:" not in prompt("mini-gemini-vicuna", PICTURE)


@pytest.mark.parametrize("name", ["llava-v1", "yi-vl"])
def test_a_picture_placed_by_hand_gets_no_line_break(name: str) -> None:
    text = prompt(name, Message.of("user", "See <IMAGE_TOKEN> here.", b"picture"))
    assert f"See {TEMPLATES[name][2]} here." in text


def test_deepseek_strips_a_message() -> None:
    assert "User: <image_placeholder>Why?\n\nAssistant:" in prompt(
        "deepseek-vl", Message.of("user", "Why?\n ", b"p")
    )
