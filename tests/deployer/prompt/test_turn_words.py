"""Each field of a chat template as a key: its effect on the prompt; a JSON of them; templates that refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
from prompt_requests import chat
from prompt_setup import deploy_config, model_spec

from deployer.assets import resource_dir
from deployer.errors import ConfigError
from deployer.prompt.assemble import PromptBuilder
from deployer.prompt.chat import ChatTemplate
from deployer.prompt.messages import Message
from deployer.prompt.template_choice import known_templates
from deployer.prompt.tokenizer import decode

TURNS = [Message.of("user", "q1"), Message.of("assistant", "a1"), Message.of("user", "q2")]
# A system text stands inside a turn or a picture in front of all of them; no fixed words can say that.
OTHERWISE = {
    "cogvlm", "cogvlm2", "internlm-xcomposer2d5", "internvl-zh", "llama2", "llava-mistral", "mistral",
}  # fmt: skip
FIXED = sorted(set(known_templates()) - OTHERWISE)


def shipped(name: str, **words: str) -> ChatTemplate:
    path = resource_dir("chat_templates") / f"{name}.jinja"
    return ChatTemplate(
        path, bos_token="<s>", eos_token="</s>", origin=f"chat_template.name={name}", words=words
    )


def text(template: ChatTemplate, *messages: Message, system: str | None = None) -> str:
    rendered = template.render(messages, system=system, add_generation_prompt=True)
    return "[picture]".join(rendered.pieces)


@pytest.mark.parametrize(
    ("word", "before", "after"),
    [
        ("system", "<|im_start|>system\n", "SYS<"),
        ("eosys", "S<|im_end|>\n", "S<SYS>"),
        ("user", "<|im_start|>user\n", "USER<"),
        ("eoh", "q1<|im_end|>\n", "q1<EOH>"),
        ("assistant", "<|im_start|>assistant\n", "BOT<"),
        ("eoa", "a1<|im_end|>\n", "a1<EOA>"),
    ],
)
def test_a_word_is_replaced_wherever_it_stands_and_nothing_else(word: str, before: str, after: str) -> None:
    conversation = [Message.of("system", "S"), *TURNS]
    plain = text(shipped("chatml"), *conversation)
    new = after.lstrip("Sqa1") if word in ("eosys", "eoh", "eoa") else after
    wanted = plain.replace(before, after)
    if word == "eoh":
        wanted = wanted.replace("q2<|im_end|>\n", "q2<EOH>")
    assert text(shipped("chatml", **{word: new}), *conversation) == wanted != plain


def test_a_separator_stands_between_an_answer_and_the_next_question() -> None:
    plain = text(shipped("chatml"), *TURNS)
    wanted = plain.replace("a1<|im_end|>\n", "a1<|im_end|>\n---")
    assert text(shipped("chatml", separator="---"), *TURNS) == wanted


def test_the_templates_own_system_text_its_pictures_and_labels_stay() -> None:
    asked = [Message.of("user", "q", b"one", b"two")]
    plain = text(shipped("internvl2-internlm2"), *asked)
    changed = text(shipped("internvl2-internlm2", user="<U>"), *asked)
    assert "Image-2: <img>[picture]</img>" in changed
    assert changed == plain.replace("<|im_start|>user\n", "<U>")
    assert text(shipped("internvl2-internlm2", user="<U>"), *asked, system="mine").count("mine") == 1


@pytest.mark.parametrize("name", FIXED)
def test_words_are_found_in_every_template_that_has_them(name: str) -> None:
    conversation = [Message.of("user", "q1"), *TURNS[1:]]
    changed = text(shipped(name, eoa="<EOA>", separator="<SEP>"), *conversation, system="")
    assert "<EOA><SEP>" in changed
    plain = text(shipped(name), *conversation, system="")
    same = text(shipped(name, separator=""), *conversation, system="")
    assert same == plain


@pytest.mark.parametrize("name", sorted(OTHERWISE))
def test_a_template_without_fixed_words_refuses_them(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"chat_template.user: chat_template.name={name} does not write"):
        shipped(name, user="<U>")


def builder(folder: Path, **template: Any) -> PromptBuilder:
    return PromptBuilder(deploy_config(template=template), model_spec(with_vision=False), folder)


async def asked(built: PromptBuilder) -> str:
    return decode(built.tokenizer, (await chat(built, "q")).token_ids)


async def test_the_keys_of_the_config_reach_the_prompt(folder: Path) -> None:
    plain = await asked(builder(folder, name="chatml", meta_instruction="be brief"))
    assert "be brief" in plain
    changed = await asked(builder(folder, name="chatml", meta_instruction="be brief", user="human:", eoh="!"))
    assert "human:q!" in changed


async def test_a_completion_is_the_text_alone(folder: Path) -> None:
    found = await asked(builder(folder, name="chatml", capability="completion", meta_instruction="be brief"))
    assert found.replace("<s>", "") == "q"


def fields_file(folder: Path, **fields: Any) -> str:
    path = folder / "fields.json"
    path.write_text(json.dumps(fields))
    return str(path)


LMDEPLOY = {
    "model_name": "customized_model",
    "system": "<S>",
    "meta_instruction": "be kind",
    "eosys": "</S>",
    "user": "<U>",
    "eoh": "</U>",
    "assistant": "<A>",
    "eoa": "</A>",
    "separator": "|",
    "capability": "chat",
    "stop_words": ["</A>"],
}


async def test_a_json_of_all_fields_is_a_template(folder: Path) -> None:
    built = builder(folder, name="chatml", file=fields_file(folder, **LMDEPLOY))
    assert (await asked(built)).replace("<s>", "") == "<S>be kind</S><U>q</U><A>"
    assert "</A>" in built.stop_words


async def test_a_json_may_name_a_template_here_and_the_config_wins_over_it(folder: Path) -> None:
    file = fields_file(folder, model_name="chatml", user="<U>", meta_instruction=None)
    assert "<U>q\nassistant\n" in await asked(builder(folder, name="phi-3", file=file))
    assert "mine:q\nassistant\n" in await asked(builder(folder, name="phi-3", file=file, user="mine:"))


async def test_what_a_json_of_another_name_leaves_out_is_empty(folder: Path) -> None:
    file = fields_file(folder, model_name="mine", user="<U>")
    assert (await asked(builder(folder, name="qwen", file=file))).replace("<s>", "") == "<U>q"


def test_a_name_without_words_around_turns_is_a_template_written_otherwise(folder: Path) -> None:
    file = fields_file(folder, model_name="internvl2_internlm2", meta_instruction="be brief")
    with pytest.raises(ConfigError, match=r"is 'internvl2_internlm2', .*: nearest templates: `internvl2-int"):
        builder(folder, file=file)


async def test_a_completion_needs_no_words_around_turns(folder: Path) -> None:
    file = fields_file(folder, model_name="mine", capability="completion")
    assert (await asked(builder(folder, name="qwen", file=file))).replace("<s>", "") == "q"


def test_what_is_wrong_with_a_json_is_told_together(folder: Path) -> None:
    file = fields_file(folder, usr="x", eoh=3, capability="python", stop_words="a")
    with pytest.raises(ConfigError) as caught:
        builder(folder, file=file)
    for part in ("unknown field `usr`", "`eoh` is 3", "`capability` is 'python'", "`stop_words` is 'a'"):
        assert part in str(caught.value)


def test_words_of_a_checkpoints_own_template_are_not_replaced(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(ConfigError, match=r"chat_template\.user='x': .*choose one of ours"):
        builder(folder, name="from_checkpoint", user="x")


def test_tools_are_refused_where_words_are_replaced() -> None:
    """There are no words for calls and results."""
    assert shipped("qwen").tool_format is not None
    assert shipped("qwen", user="<U>").tool_format is None
