"""What turns of /v1/messages are made of: Anthropic's blocks as far as they are served.

`cache_control` is taken and changes nothing: every prompt's prefix is kept and looked for anyway.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from deployer.serve.field_types import NotServed, OnlyEmpty, OnlyFalse, by_word, string_or_list
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
    citations: OnlyEmpty | None = None
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
    source: Annotated[
        Annotated[PictureData, Tag("(base64)")] | Annotated[PictureUrl, Tag("(url)")],
        by_word("type", "base64", "url"),
    ]
    cache_control: CacheControl | None = None
    transformations: NotServed


class Caller(Body):
    """Who calls: the model itself."""

    type: Literal["direct"]


class ToolUseBlock(Body):
    """A call that the model made."""

    type: Literal["tool_use"]
    id: str
    name: FunctionName
    input: dict[str, Any]
    caller: Caller | None = None
    toolset_name: NotServed
    cache_control: CacheControl | None = None


TEXT_OR_BLOCKS = Discriminator(
    string_or_list,
    custom_error_type="content_type",
    custom_error_message="must be a string or a list of blocks",
)
_SeenBlock = Annotated[
    Annotated[TextBlock, Tag("(text)")] | Annotated[ImageBlock, Tag("(image)")],
    by_word("type", "text", "image"),
]


class PlainText(Body):
    """A document's text in the body."""

    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: str


class DocumentParts(Body):
    """A document of texts and pictures."""

    type: Literal["content"]
    content: Annotated[
        Annotated[str, Tag("(string)")] | Annotated[list[_SeenBlock], Tag("(list)")], TEXT_OR_BLOCKS
    ]


class Citations(Body):
    """Whether answers point into a document; they don't."""

    enabled: OnlyFalse | None = None


class DocumentBlock(Body):
    """A document as its text; title and context stand in front of it."""

    type: Literal["document"]
    source: Annotated[
        Annotated[PlainText, Tag("(text)")] | Annotated[DocumentParts, Tag("(content)")],
        by_word(
            "type", "text", "content", way_out="of a PDF send the text, or its pages as pictures in `content`"
        ),
    ]
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None
    cache_control: CacheControl | None = None


_ResultBlock = Annotated[
    Annotated[TextBlock, Tag("(text)")]
    | Annotated[ImageBlock, Tag("(image)")]
    | Annotated[DocumentBlock, Tag("(document)")],
    by_word("type", "text", "image", "document"),
]


class ToolResultBlock(Body):
    """What came of a call."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: (
        Annotated[
            Annotated[str, Tag("(string)")] | Annotated[list[_ResultBlock], Tag("(list)")], TEXT_OR_BLOCKS
        ]
        | None
    ) = None
    is_error: bool | None = None
    toolset_name: NotServed
    cache_control: CacheControl | None = None


UserBlock = Annotated[
    Annotated[TextBlock, Tag("(text)")]
    | Annotated[ImageBlock, Tag("(image)")]
    | Annotated[DocumentBlock, Tag("(document)")]
    | Annotated[ToolResultBlock, Tag("(tool_result)")],
    by_word("type", "text", "image", "document", "tool_result"),
]
AssistantBlock = Annotated[
    Annotated[TextBlock, Tag("(text)")] | Annotated[ToolUseBlock, Tag("(tool_use)")],
    by_word("type", "text", "tool_use"),
]
