"""Messages of chat bodies: OpenAI's roles and parts as far as they are served."""

from typing import Annotated, Literal

from pydantic import Discriminator, Tag, model_validator

from deployer.serve.field_types import NotServed, OnlyEmpty, by_word, string_or_list
from deployer.serve.fineness_body import FinenessBody
from deployer.serve.schema_rules import absent, both, fits_one, given, limited
from deployer.serve.strict_body import Body
from deployer.serve.tool_types import ToolCall
from deployer.serve.video_body import VideoUrl


class TextPart(Body):
    """Words in a message."""

    type: Literal["text"]
    text: str


class ImageUrl(FinenessBody):
    """Where a picture comes from, and how finely it is cut."""

    url: str


class ImagePart(Body):
    """A picture in a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class VideoPart(Body):
    """A video in a message."""

    type: Literal["video_url"]
    video_url: VideoUrl


Part = Annotated[
    Annotated[TextPart, Tag("(text)")]
    | Annotated[ImagePart, Tag("(image_url)")]
    | Annotated[VideoPart, Tag("(video_url)")],
    by_word("type", "text", "image_url", "video_url"),
]
Content = Annotated[
    Annotated[str, Tag("(string)")] | Annotated[list[Part], Tag("(list)")],
    Discriminator(
        string_or_list,
        custom_error_type="content_type",
        custom_error_message="must be a string or a list of parts",
    ),
]


# Where pictures and videos may stand is checked as a prompt is made (`deployer/prompt/placement.py`).
_TEXT_ALONE = {"items": {"properties": {"type": {"const": "text"}}}}
_OF_A_RESULT = ("tool_call_id", "name")


class Message(Body):
    """One turn of a conversation; pictures and videos stand in the user's."""

    model_config = fits_one(
        both(given("content", role=("user",)), absent("tool_calls", *_OF_A_RESULT)),
        limited(
            both(given("content", role=("system", "developer")), absent("tool_calls", *_OF_A_RESULT)),
            content=_TEXT_ALONE,
        ),
        limited(both(given("content", role=("assistant",)), absent(*_OF_A_RESULT)), content=_TEXT_ALONE),
        limited(
            both(given("tool_calls", role=("assistant",)), absent(*_OF_A_RESULT)),
            content=_TEXT_ALONE,
            tool_calls={"minItems": 1},
        ),
        limited(
            both(given("content", "tool_call_id", role=("tool",)), absent("tool_calls")), content=_TEXT_ALONE
        ),
    )
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None  # of the function that a result is of
    annotations: OnlyEmpty | None = None
    function_call: NotServed
    refusal: NotServed
    audio: NotServed

    @model_validator(mode="after")
    def _fits_its_role(self) -> "Message":
        if self.tool_calls is not None and self.role != "assistant":
            raise ValueError("must be of role `assistant` to hold `tool_calls`")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("must hold `tool_call_id` where its role is `tool`, and only there")
        if self.name is not None and self.role != "tool":
            raise ValueError("must be of role `tool` to hold `name`; say who speaks in the text")
        if self.content is None and not self.tool_calls:
            raise ValueError("must hold `content`: a string or a list of parts")
        return self
