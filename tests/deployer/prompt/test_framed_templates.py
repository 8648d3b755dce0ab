"""The templates of CogVLM and GLM-4V, written out."""

import pytest

from deployer.assets import resource_dir
from deployer.prompt.chat import ChatTemplate
from deployer.prompt.messages import Message
from engines.errors import RequestError

ASKED = Message.of("user", "Q1", b"picture")
TURNS = [ASKED, Message.of("assistant", "A1"), Message.of("user", "Q2")]


def shipped(name: str) -> ChatTemplate:
    path = resource_dir("chat_templates") / f"{name}.jinja"
    return ChatTemplate(path, bos_token="<s>", eos_token="</s>", origin=f"chat_template.name={name}")


def pieces(name: str, *messages: Message, system: str | None = None) -> tuple[str, ...]:
    return shipped(name).render(messages, system=system, add_generation_prompt=True).pieces


@pytest.mark.parametrize("name", ["cogvlm", "cogvlm2"])
def test_cogvlms_picture_comes_first_and_turns_are_lines(name: str) -> None:
    assert pieces(name, ASKED) == ("", "Question: Q1 Answer:")
    assert pieces(name, *TURNS) == ("", "Question: Q1 Answer: A1\nQuestion: Q2 Answer:")
    text, later = Message.of("user", "Q1"), Message.of("user", "Q2", b"picture")
    assert pieces(name, text, TURNS[1], later) == pieces(name, *TURNS)
    assert pieces(name, text) == ("Question: Q1 Answer:",)


def test_glm4_opens_each_turn_with_its_role_and_a_line_break() -> None:
    assert pieces("glm4", ASKED) == ("[gMASK]<sop><|user|>\n", "Q1<|assistant|>")
    assert pieces("glm4", *TURNS) == (
        "[gMASK]<sop><|user|>\n",
        "Q1<|assistant|>\nA1<|user|>\nQ2<|assistant|>",
    )


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("cogvlm", "S\nQuestion: Q"),
        ("cogvlm2", "S\nQuestion: Q"),
        ("glm4", "[gMASK]<sop><|system|>\nS<|user|>\nQ"),
    ],
)
def test_a_system_text_of_the_config_and_one_of_the_client_write_the_same(name: str, opening: str) -> None:
    question = Message.of("user", "Q")
    (opened,) = pieces(name, question, system="S")
    assert opened.startswith(opening)
    assert pieces(name, Message.of("system", "S"), question, system="other") == (opened,)
    assert pieces(name, question, system="") == pieces(name, question)


@pytest.mark.parametrize("name", ["cogvlm", "cogvlm2", "glm4"])
def test_a_second_picture_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match=f"{name} takes one picture a conversation, which has 2"):
        pieces(name, *TURNS[:2], Message.of("user", "Q2", b"picture"))


@pytest.mark.parametrize("name", ["cogvlm", "cogvlm2"])
def test_a_system_text_in_the_middle_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="only the first message may be a system message"):
        pieces(name, *TURNS, Message.of("system", "S"))


def test_answers_end_where_the_releases_end_them() -> None:
    assert shipped("cogvlm").stop_words == ("</s>",)
    assert shipped("cogvlm2").stop_words == ("<|end_of_text|>",)
    assert shipped("glm4").stop_words == ("<|endoftext|>", "<|user|>", "<|observation|>")
