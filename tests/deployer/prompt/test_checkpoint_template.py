"""The template of a checkpoint: found, rendered as transformers would, held to what it must write."""

import json
from pathlib import Path
from typing import Any

import pytest
from prompt_requests import chat, picture
from prompt_setup import FIXTURES, deploy_config, model_spec

from deployer.errors import ConfigError
from deployer.prompt.assemble import PromptBuilder
from deployer.prompt.checkpoint_template import CheckpointTemplate
from deployer.prompt.fineness import AS_DEPLOYED
from deployer.prompt.frame_list import open_frames
from deployer.prompt.messages import ImagePart, Message, Part, TextPart
from deployer.prompt.seen_video import ClipPart, FramePart, SeenVideo
from engines.errors import RequestError

REFERENCE = json.loads((FIXTURES / "prompts" / "from_checkpoint.json").read_text("utf-8"))
MARKERS = {"internvl3_hf": "<IMG_CONTEXT>", "qwen2_vl": "<|image_pad|>"}
WITH_PICTURES = "{% for p in messages[0].content %}{{ '<image>' if p.type == 'image' }}{% endfor %}"
PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"


def template(folder: Path, text: str, marker: str | None = None) -> CheckpointTemplate:
    (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
    return CheckpointTemplate(folder, bos_token="<s>", eos_token="</s>", image_marker=marker)


def message(role: Any, content: Any) -> Message:
    if isinstance(content, str):
        return Message.of(role, content)
    parts: list[Part] = [
        ImagePart(source=b"picture") if part["type"] == "image" else TextPart(text=part["text"])
        for part in content
    ]
    return Message(role=role, parts=tuple(parts))


@pytest.mark.parametrize("family", sorted(REFERENCE))
def test_prompts_are_the_releases_to_the_character(family: str, tmp_path: Path) -> None:
    reference = REFERENCE[family]
    made = template(tmp_path, reference["chat_template"], MARKERS[family])
    for name, conversation in reference["conversations"].items():
        messages = [message(turn["role"], turn["content"]) for turn in conversation]
        rendered = made.render(messages, system=None, add_generation_prompt=True)
        assert MARKERS[family].join(rendered.pieces) == reference["prompts"][name]
        assert len(rendered.images) == len(rendered.pieces) - 1


def test_a_video_is_written_as_its_release_writes_it(tmp_path: Path) -> None:
    seen = SeenVideo(
        footage=open_frames((picture(28, 28),) * 2, index=0, max_pixels=9999, timeout_s=20), index=0,
        chosen=(0, 1), seconds=1.0, fetch_begun_s=0.0, fetch_s=0.0,
    )  # fmt: skip
    frames = [
        FramePart(video=seen, place=place, label=f"Frame{place + 1}: ", fineness=AS_DEPLOYED)
        for place in range(2)
    ]
    text = TextPart(text="what?")
    one = template(tmp_path, REFERENCE["internvl3_hf"]["chat_template"], MARKERS["internvl3_hf"])
    turn = Message(role="user", parts=(*frames, text))
    rendered = one.render([turn], system=None, add_generation_prompt=False)
    assert "@".join(rendered.pieces) == "<|im_start|>user\nFrame1: @\nFrame2: @\nwhat?<|im_end|>\n"
    (tmp_path / "chat_template.jinja").write_text(REFERENCE["qwen2_vl"]["chat_template"])
    other = CheckpointTemplate(
        tmp_path, bos_token="", eos_token="", image_marker="<|image_pad|>", video_marker="<|video_pad|>"
    )
    still = ImagePart(source=b"picture")
    turn = Message(role="user", parts=(still, ClipPart(video=seen, fineness=AS_DEPLOYED), text))
    rendered = other.render([turn], system="s", add_generation_prompt=False)
    start, end = "<|vision_start|>", "<|vision_end|>"
    assert rendered.pieces[1:] == (f"{end}{start}", f"{end}what?<|im_end|>\n")
    assert rendered.images == turn.parts[:2]


def test_a_system_text_goes_in_front_unless_the_client_sent_one(tmp_path: Path) -> None:
    made = template(tmp_path, "{% for m in messages %}[{{ m.role }} {{ m.content }}]{% endfor %}")
    user, system = Message.of("user", "q"), Message.of("system", "theirs")
    assert made.render([user], system="s", add_generation_prompt=True).pieces == ("[system s][user q]",)
    both = made.render([system, user], system="s", add_generation_prompt=True)
    assert both.pieces == ("[system theirs][user q]",)


@pytest.mark.parametrize(
    "files",
    [
        {"chat_template.json": {"chat_template": PLAIN}},
        {"tokenizer_config.json": {"chat_template": PLAIN}},
        {"tokenizer_config.json": {"chat_template": [{"name": "default", "template": PLAIN}]}},
    ],
)
def test_it_is_found_wherever_releases_keep_it(files: dict[str, Any], tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    made = CheckpointTemplate(tmp_path, bos_token="", eos_token="", image_marker=None)
    rendered = made.render([Message.of("user", "q")], system=None, add_generation_prompt=True)
    assert rendered.pieces == ("q",)


def test_the_helpers_of_transformers_are_there(tmp_path: Path) -> None:
    made = template(
        tmp_path,
        "{{ strftime_now('%Y') | length }}{% for m in messages %}{% break %}{% endfor %}{{ '<é>' | tojson }}"
        "{% if tools %}tools{% endif %}{{ bos_token }}",
    )
    pieces = made.render([Message.of("user", "q")], system=None, add_generation_prompt=True).pieces
    assert pieces == ('4"<é>"<s>',)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{% if %}", "line 1 of the template"),
        ("{{ raise_exception('no way') }}", "no way"),
        ("{{ ().__class__.__bases__ }}", "unsafe"),
        ("no picture", "wrote `<image>` 0 times for 1 image: must be once each"),
    ],
)
def test_a_template_that_cannot_work_is_refused_at_the_start(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        template(tmp_path, text, "<image>")


def test_a_folder_without_a_template_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no chat template .* choose one of ours"):
        CheckpointTemplate(tmp_path, bos_token="", eos_token="", image_marker=None)


def test_a_text_that_holds_the_image_token_is_refused(tmp_path: Path) -> None:
    made = template(tmp_path, WITH_PICTURES, "<image>")
    with pytest.raises(RequestError, match=r"message 1 holds `<image>`, which stands for a picture"):
        made.render([message("user", "what does <image> mean")], system=None, add_generation_prompt=True)


async def test_a_builder_uses_it_when_it_is_asked_to(folder: Path) -> None:
    config = deploy_config(template={"name": "from_checkpoint"})
    with pytest.raises(ConfigError, match="has no chat template"):
        PromptBuilder(config, model_spec(with_vision=False), folder)
    (folder / "chat_template.jinja").write_text("{{ bos_token }}" + PLAIN)
    builder = PromptBuilder(config, model_spec(with_vision=False), folder)
    ids = (await chat(builder, "q")).token_ids
    assert ids.count(1) == 1
    with pytest.raises(ConfigError, match=r"chat_template.meta_instruction=\"\": .* set one or null"):
        empty = deploy_config(template={"name": "from_checkpoint", "meta_instruction": ""})
        PromptBuilder(empty, model_spec(with_vision=False), folder)
    with pytest.raises(ConfigError, match="names no image token"):
        PromptBuilder(config, model_spec(), folder)
