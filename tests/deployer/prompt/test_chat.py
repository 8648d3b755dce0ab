"""Templates against the prompt strings of the model releases, and what a template may get wrong."""

import json
import re
from pathlib import Path

import pytest
from prompt_setup import FIXTURES

from deployer.assets import resource_dir
from deployer.errors import ConfigError
from deployer.prompt.chat import ChatTemplate
from deployer.prompt.messages import ImagePart, Message, TextPart
from engines.errors import RequestError

REFERENCE = json.loads((FIXTURES / "prompts" / "internvl.json").read_text("utf-8"))
OF_REFERENCE = {
    "Hermes-2": "internvl2-internlm2",
    "internlm2-chat": "internvl2-internlm2",
    "phi3-chat": "internvl2-phi3",
}
ANSWERS_BEGIN_UNMARKED = {"bare", "llama2", "llava-mistral", "mistral"}
SHIPPED = sorted(path.stem for path in resource_dir("chat_templates").glob("[!_]*.jinja"))


def shipped(name: str) -> ChatTemplate:
    path = resource_dir("chat_templates") / f"{name}.jinja"
    return ChatTemplate(path, bos_token="<s>", eos_token="</s>", origin=f"chat_template.name={name}")


def own(tmp_path: Path, text: str) -> ChatTemplate:
    path = tmp_path / "own.jinja"
    path.write_text(text, encoding="utf-8")
    return ChatTemplate(path, bos_token="<s>", eos_token="</s>", origin=f"chat_template.file={path}")


def prompt(template: ChatTemplate, *messages: Message, system: str | None = None, answer: bool = True) -> str:
    """Return the prompt with `[]` where images go."""
    return "[]".join(template.render(messages, system=system, add_generation_prompt=answer).pieces)


def user(text: str, num_images: int = 0) -> Message:
    images = (ImagePart(source=b"picture"),) * num_images
    return Message(role="user", parts=(TextPart(text=text), *images))


@pytest.mark.parametrize("name", sorted(OF_REFERENCE))
def test_prompts_are_the_reference_s_to_the_character(name: str) -> None:
    template, expected = shipped(OF_REFERENCE[name]), REFERENCE["templates"][name]
    assert prompt(template, user("Please describe the image shortly.")) == expected["single_turn"]
    turns = [
        user("<image>\nHi there", 1),
        Message.of("assistant", "Hello! How can I help?"),
        user("今天天气怎么样？"),
    ]
    assert prompt(template, *turns) == expected["with_history"].replace("<image>", "<img>[]</img>")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "internvl-internlm2",
            "<|im_start|>system\nYou are an AI assistant whose name is InternLM (书生·浦语).<|im_end|>"
            "<|im_start|>user\n<img>[]</img>\nq<|im_end|><|im_start|>assistant\na<|im_end|>"
            "<|im_start|>user\nr<|im_end|><|im_start|>assistant\n",
        ),
        (
            "internvl-phi3",
            "<|system|>\nYou are an AI assistant whose name is Phi-3.<|end|><|user|>\n<img>[]</img>\nq<|end|>"
            "<|assistant|>\na<|end|><|user|>\nr<|end|><|assistant|>\n",
        ),
        ("internvl-zh", " <human>: <img>[]</img>\nq <bot>: a</s><human>: r <bot>:"),
    ],
)
def test_the_older_releases_have_prompts_of_their_own(name: str, expected: str) -> None:
    assert prompt(shipped(name), user("q", 1), Message.of("assistant", "a"), user("r")) == expected


def between_turns(text: str) -> str:
    return text.split("<|im_start|>user\n")[-1].split("<|im_end|>")[0]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("q", 1), "<img>[]</img>\nq"),
        ((1, 1, "q"), "Image-1: <img>[]</img>\nImage-2: <img>[]</img>\nq"),
        (("this", 1, "or", 1, "?"), "this\nImage-1: <img>[]</img>\nor\nImage-2: <img>[]</img>\n?"),
        (("Image-1: <image>\nB: <image>\nq", 1, 1), "Image-1: <img>[]</img>\nB: <img>[]</img>\nq"),
        (("a <IMAGE_TOKEN> b", 1), "a <img>[]</img> b"),
    ],
)  # fmt: skip
def test_images_are_written_as_the_reference_writes_them(parts: tuple[str | int, ...], expected: str) -> None:
    made = tuple(TextPart(text=part) if isinstance(part, str) else ImagePart(source=b"p") for part in parts)
    text = prompt(shipped("internvl2-internlm2"), Message(role="user", parts=made))
    assert between_turns(text) == expected


def test_labels_count_over_the_conversation() -> None:
    text = prompt(shipped("internvl2-internlm2"), user("a", 2), Message.of("assistant", "b"), user("c", 2))
    assert re.findall(r"Image-\d", text) == ["Image-1", "Image-2", "Image-3", "Image-4"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_system_text_comes_from_request_then_deployment_then_template(name: str) -> None:
    template = shipped(name)
    asked = [Message.of("system", "of the request"), user("q")]
    assert "of the request" in prompt(template, *asked, system="of the deployment")
    assert "of the deployment" not in prompt(template, *asked, system="of the deployment")
    assert "of the deployment" in prompt(template, user("q"), system="of the deployment")
    assert "system" not in prompt(template, user("q"), system="")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_prompt_can_end_without_the_beginning_of_an_answer(name: str) -> None:
    template = shipped(name)
    whole, open_end = prompt(template, user("q"), answer=False), prompt(template, user("q"))
    assert open_end.startswith(whole)
    assert (open_end == whole) == (name in ANSWERS_BEGIN_UNMARKED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_template_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    first = (resource_dir("chat_templates") / f"{name}.jinja").read_text("utf-8").split("#}")[0]
    assert first.startswith(f"{{#- {name}: ") and "Source: " in first
    assert shipped(name).stop_words or name == "bare"


def test_what_a_client_types_makes_no_slot() -> None:
    template = shipped("internvl2-internlm2")
    seen = template.render([user("q", 1)], system=None, add_generation_prompt=True)
    assert len(seen.pieces) == 2
    typed = "<IMG_CONTEXT> {{ part.slot }} <0:0> \x00 {% raw %} <img></img>"
    assert between_turns(prompt(template, user(typed))) == typed
    assert len(template.render([user(typed, 1)], system=None, add_generation_prompt=True).pieces) == 2


def test_a_syntax_error_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"chat_template.file=.*own.jinja, line 2: "):
        own(tmp_path, "{# own #}\n{% for message in messages %}\n")


def test_an_unknown_name_is_found_when_the_template_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"own.jinja, line 3: 'mesages' is undefined"):
        own(tmp_path, "{# own #}\n\n{% for message in mesages %}{% endfor %}")


def test_a_template_that_forgets_or_doubles_an_image_is_refused(tmp_path: Path) -> None:
    forgets = "{% for p in messages[0].content %}{{ p.text if p.type == 'text' }}{% endfor %}"
    with pytest.raises(ConfigError, match=r"image 1 of 1 is missing or out of order: must write `part.slot`"):
        own(tmp_path, forgets)
    with pytest.raises(ConfigError, match=r"image 1 of 1 is doubled"):
        own(tmp_path, forgets.replace("'text' }}", "'text' else p.slot ~ p.slot }}"))


def test_a_template_cannot_reach_python(tmp_path: Path) -> None:
    for text in ("{{ messages.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ ''.__class__ }}"):
        with pytest.raises(ConfigError, match=r"own.jinja, line 1"):
            own(tmp_path, text)


def test_a_template_may_refuse_a_conversation(tmp_path: Path) -> None:
    template = own(
        tmp_path,
        "{% for m in messages %}{% for p in m.content %}{{ p.text if p.type == 'text' else p.slot }}"
        "{% endfor %}{% endfor %}{% if messages[3:] %}{{ raise_exception('too many turns') }}{% endif %}",
    )
    with pytest.raises(RequestError, match=r"chat template: too many turns"):
        template.render([user("a")] * 4, system=None, add_generation_prompt=True)


def test_an_own_template_may_import_what_the_shipped_ones_share(tmp_path: Path) -> None:
    template = own(
        tmp_path,
        '{% from "_internvl.jinja" import write %}{% set stop_words = ["END"] %}'
        "{% for m in messages %}{{ bos_token }}{{ write(m.content, labelled=false) }}END{% endfor %}",
    )
    assert prompt(template, user("q", 1)) == "<s><img>[]</img>\nqEND"
    assert template.stop_words == ("END",)
