"""What counts as a prompt, and what is said where something does not."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deployer.offline.openai_messages import conversation_of
from deployer.offline.prompt_forms import conversation, conversations, image_source
from deployer.prompt.fineness import Fineness
from deployer.prompt.messages import ImagePart, Message, TextPart
from engines.errors import RequestError

IMAGE = Image.new("RGB", (4, 4))
USER = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("prompts", "count", "is_batch"),
    [
        ("Hi", 1, False),
        (("Hi", IMAGE), 1, False),
        (("Hi", [IMAGE, IMAGE]), 1, False),
        (USER, 1, False),
        (["Hi", "Ho"], 2, True),
        ([("Hi", IMAGE), ("Ho", [IMAGE])], 2, True),
        ([USER, USER, USER], 3, True),
        (["Hi", ("Hi", IMAGE), USER], 3, True),
        (["Hi"], 1, True),
        ([], 0, True),
        ([Message.of("user", "Hi")], 1, False),
    ],
)
def test_forms(prompts: Any, count: int, is_batch: bool) -> None:
    found = conversations(prompts)
    assert (len(found.messages), found.is_batch) == (count, is_batch)


def test_pictures_stand_before_the_text() -> None:
    [message] = conversation(("Hi", [IMAGE, b"png"]))
    assert [type(part) for part in message.parts] == [ImagePart, ImagePart, TextPart]


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ("cat.png", Path("cat.png")),
        ("~/cat.png", Path.home() / "cat.png"),
        ("C:/cat.png", Path("C:/cat.png")),
        ("HTTPS://host/cat.png", "HTTPS://host/cat.png"),
        ("data:image/png;base64,AA", "data:image/png;base64,AA"),
        ("file:///cat.png", "file:///cat.png"),
        (b"png", b"png"),
        (Path("cat.png"), Path("cat.png")),
    ],
)
def test_text_that_is_no_url_is_a_path(given: Any, source: Any) -> None:
    assert image_source(given) == source


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (3, "`3`: is no prompt: must be text"),
        (("Hi",), "is no prompt"),
        (("Hi", 3), "`3`: is no picture"),
        ((3, "cat.png"), "is no prompt"),
        ([], "a conversation is empty"),
        (["Hi"], r"messages\[0\]: is a str: must be a mapping"),
    ],
)
def test_what_is_no_prompt_is_shown(prompt: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        conversation(prompt)


def test_openai_messages_keep_their_order_and_detail() -> None:
    [first, second] = conversation_of(
        [
            {"role": "developer", "content": "Be brief"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "one"},
                    {"type": "image_url", "image_url": {"url": "https://host/x.png", "detail": "low"}},
                    {"type": "image_data", "image_data": {"data": IMAGE, "max_dynamic_patch": 3}},
                ],
            },
        ]
    )
    assert first == Message.of("system", "Be brief")
    assert second.parts == (
        TextPart(text="one"),
        ImagePart(source="https://host/x.png", fineness=Fineness(detail="low")),
        ImagePart(source=IMAGE, fineness=Fineness(max_tiles=3)),
    )


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "robot", "content": "x"}, r"messages\[0\].role='robot': must be one of assistant"),
        ({"role": "user"}, r"messages\[0\].content: is missing"),
        ({"role": "user", "content": 3}, "is a int: must be text or a list of parts"),
        ({"role": "user", "content": "x", "nmae": "y"}, "unknown `nmae`: known are `content`, `role`"),
        ({"role": "user", "content": [{"type": "audio"}]}, r"content\[0\]: must be a mapping whose `type`"),
        ({"role": "user", "content": [{"type": "text", "text": 3}]}, "text: is a int: must be text"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, "must be a mapping"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "url: is missing: must be"),
        (
            {"role": "user", "content": [{"type": "image_data", "image_data": {"data": "x.png"}}]},
            "data: is a str: must be a PIL image, bytes or a Path",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x", "detail": "xl"}}]},
            "detail='xl': must be one of auto, high, low, medium",
        ),
        (
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "x", "max_pixels": 0.5}}],
            },
            "image_url.max_pixels=0.5: must be a whole number of at least 1",
        ),
    ],
)
def test_a_message_at_fault_is_named(message: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        conversation_of([message])
