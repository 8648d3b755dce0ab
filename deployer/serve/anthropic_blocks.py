"""What turns of /v1/messages are made of: Anthropic's blocks as far as they are served.

`cache_control` is taken and changes nothing: every prompt's prefix is kept and looked for anyway.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from deployer.serve.field_types import NotServed, by_type, string_or_list
from deployer.serve.fineness_body import FinenessBody
from deployer.serve.strict_body import Body
from deployer.serve.tool_types import FunctionName


class CacheControl(Body):
    """A mark for Anthropic's cache of prompts."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(Body):
    """Words."""

    type: Literal["text"]
    text: str
    citations: NotServed
    cache_control: CacheControl | None = None


class PictureData(Body):
    """A picture in the body; its bytes tell its format."""

    type: Literal["base64"]
    media_type: Annotated[str, Field(pattern=r"^image/[a-z0-9.+-]+$")]
    data: str


class PictureUrl(Body):
    """A picture elsewhere."""

    type: Literal["url"]
    url: str


class ImageBlock(FinenessBody):
    """A picture; how finely it is cut is an extension."""

    type: Literal["image"]
    source: Annotated[PictureData | PictureUrl, Field(discriminator="type")]
    cache_control: CacheControl | None = None


class ToolUseBlock(Body):
    """A call that the model made."""

    type: Literal["tool_use"]
    id: str
    name: FunctionName
    input: dict[str, Any]
    cache_control: CacheControl | None = None


TEXT_OR_BLOCKS = Discriminator(
    string_or_list,
    custom_error_type="content_type",
    custom_error_message="must be a string or a list of blocks",
)
SeenBlock = Annotated[
    Annotated[TextBlock, Tag("(text)")] | Annotated[ImageBlock, Tag("(image)")], by_type("text", "image")
]


class ToolResultBlock(Body):
    """What came of a call."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: (
        Annotated[Annotated[str, Tag("(string)")] | Annotated[list[SeenBlock], Tag("(list)")], TEXT_OR_BLOCKS]
        | None
    ) = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


UserBlock = Annotated[
    Annotated[TextBlock, Tag("(text)")]
    | Annotated[ImageBlock, Tag("(image)")]
    | Annotated[ToolResultBlock, Tag("(tool_result)")],
    by_type("text", "image", "tool_result"),
]
AssistantBlock = Annotated[
    Annotated[TextBlock, Tag("(text)")] | Annotated[ToolUseBlock, Tag("(tool_use)")],
    by_type("text", "tool_use"),
]
