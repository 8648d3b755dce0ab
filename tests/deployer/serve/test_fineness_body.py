"""What requests say about how finely pictures are cut, on its way to the prompt."""

from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from deployer.prompt.fineness import Fineness
from deployer.prompt.messages import ImagePart
from deployer.serve.conversation import conversation
from deployer.serve.openai_types import ChatBody
from deployer.serve.response_request import messages_of
from deployer.serve.response_types import ResponseBody


def chat_body(*images: dict[str, object], **fields: object) -> ChatBody:
    content = [{"type": "image_url", "image_url": {"url": "x", **image}} for image in images]
    return ChatBody.model_validate({"messages": [{"role": "user", "content": content}], **fields})


def asked(body: ChatBody) -> list[Fineness]:
    [message] = conversation(body.messages, bounds=body.mm_processor_kwargs)
    return [part.fineness for part in message.parts if isinstance(part, ImagePart)]


def test_each_picture_has_bounds_of_its_own() -> None:
    body = chat_body(
        {"max_dynamic_patch": 6, "min_dynamic_patch": 2}, {"detail": "medium"}, {"max_pixels": 784}
    )
    assert asked(body) == [
        Fineness(max_tiles=6, min_tiles=2), Fineness(detail="medium"), Fineness(max_pixels=784)
    ]  # fmt: skip


def test_bounds_of_a_request_hold_for_pictures_that_say_nothing() -> None:
    images = ({}, {"detail": "high"}, {"detail": "low"}, {"max_dynamic_patch": 1})
    body = chat_body(*images, mm_processor_kwargs={"max_dynamic_patch": 3})
    assert asked(body) == [
        Fineness(max_tiles=3),
        Fineness(detail="high", max_tiles=3),
        Fineness(detail="low"),
        Fineness(max_tiles=1),
    ]


@pytest.mark.parametrize("value", [0, -1, 1.5, "6", True])
def test_a_bound_is_a_number_of_at_least_one(value: object) -> None:
    with pytest.raises(ValidationError, match="max_dynamic_patch"):
        chat_body({"max_dynamic_patch": value})


def test_what_no_picture_has_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"mm_processor_kwargs.num_crops"):
        chat_body({}, mm_processor_kwargs={"num_crops": 4})


def test_pictures_of_responses_have_the_same_bounds() -> None:
    image = {"type": "input_image", "image_url": "x", "detail": "high", "max_pixels": 3136}
    body = ResponseBody.model_validate({"input": [{"role": "user", "content": [image]}]})
    [message] = conversation(messages_of(body, ()))
    [part] = message.parts
    assert isinstance(part, ImagePart)
    assert part.fineness == Fineness(detail="high", max_pixels=3136)


async def test_a_price_is_asked_with_bounds(api: httpx.AsyncClient) -> None:
    sized = {"width": 56, "height": 28, "max_dynamic_patch": 0}
    answer = await api.post("/v1/images/price", json={"images": [sized]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "images[0].max_dynamic_patch"


async def test_bounds_that_no_picture_can_have_are_refused_without_one(api: httpx.AsyncClient) -> None:
    body = {"messages": [{"role": "user", "content": "q"}], "mm_processor_kwargs": {"max_pixels": 1}}
    error = (await api.post("/v1/chat/completions", json=body)).json()["error"]
    assert (error["code"], error["param"]) == ("image_option_refused", "mm_processor_kwargs")
    assert error["message"] == "`mm_processor_kwargs`: `max_pixels`: no such option"


@pytest.mark.parametrize("word", ["num_frames", "fps"])
async def test_frames_are_not_asked_of_a_model_that_takes_no_videos(live: Any, word: str) -> None:
    server = await live()
    body = {"messages": [{"role": "user", "content": "q"}], "mm_processor_kwargs": {word: 2}}
    async with httpx.AsyncClient(base_url=server.url) as client:
        error = (await client.post("/v1/chat/completions", json=body)).json()["error"]
        assert (error["code"], error["param"]) == ("videos_not_supported", f"mm_processor_kwargs.{word}")
        assert error["message"].endswith("this model takes no videos; leave it out")
        server.service.prompts.takes_videos = True
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
