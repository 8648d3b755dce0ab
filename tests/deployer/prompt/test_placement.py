from typing import Literal

import pytest

from deployer.prompt.messages import ImagePart, Message, Part, TextPart
from deployer.prompt.placement import PlacedImage, place
from engines.errors import RequestError


def message(*parts: str | int, role: Literal["user", "assistant", "system"] = "user") -> Message:
    """Return a message of texts and of images that are named by a number."""
    made: list[Part] = [
        TextPart(text=part) if isinstance(part, str) else ImagePart(source=bytes([part])) for part in parts
    ]
    return Message(role=role, parts=tuple(made))


def placed(*parts: str | int) -> list[str | int]:
    """Return what `place` makes of a user message, images placed by hand as negative numbers."""
    result: list[str | int] = []
    for part in place(message(*parts), position=0):
        if isinstance(part, PlacedImage):
            assert isinstance(part.part.source, bytes)
            result.append(-part.part.source[0] if part.by_hand else part.part.source[0])
        else:
            result.append(part.text)
    return result


def test_images_behind_the_text_come_first() -> None:
    assert placed("what is this", 1) == [1, "what is this"]
    assert placed("a", "b", 1, 2) == [1, 2, "a\nb"]


def test_any_other_order_is_kept() -> None:
    assert placed(1, "same as", 2) == [1, "same as", 2]
    assert placed("first", 1, "second", 2, "which") == ["first", 1, "second", 2, "which"]
    assert placed(1, 2, "text") == [1, 2, "text"]
    assert placed(1) == [1]
    assert placed("text") == ["text"]


def test_an_empty_text_is_no_text() -> None:
    assert placed("", 1, "what", "") == [1, "what"]
    assert placed("what", 1, "") == [1, "what"]


@pytest.mark.parametrize("marker", ["<IMAGE_TOKEN>", "<image>"])
def test_markers_place_images_by_hand_wherever_they_were_sent(marker: str) -> None:
    assert placed(f"look: {marker}, and {marker}?", 1, 2) == ["look: ", -1, ", and ", -2, "?"]
    assert placed(1, f"{marker}\nwhat") == [-1, "\nwhat"]


@pytest.mark.parametrize("parts", [("<IMAGE_TOKEN>",), ("<IMAGE_TOKEN><IMAGE_TOKEN>", 1), ("<image>", 1, 2)])
def test_markers_and_images_must_be_equally_many(parts: tuple[str | int, ...]) -> None:
    with pytest.raises(
        RequestError, match=r"message 1 writes `<.*>` \d times? and holds \d images?: must be equal"
    ) as caught:
        placed(*parts)
    assert caught.value.code == "image_placement"


def test_image_in_angle_brackets_is_plain_text_without_images() -> None:
    assert placed("what does <image> mean in HTML") == ["what does <image> mean in HTML"]


def test_only_users_send_images() -> None:
    with pytest.raises(RequestError, match=r"message 3 \(assistant\) holds 1 image: only user messages may"):
        place(message("a", 1, role="assistant"), position=2)
