"""Body of POST /v1/responses: OpenAI's fields as far as they are served; all else is refused.

Items that an answer put out may be sent back as they came: ids, statuses and empty lists are taken.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from deployer.generation.generation_config import MAX_LOGPROBS
from deployer.serve.field_types import (
    AnswerTokens,
    CacheKey,
    CacheOptions,
    CacheRetention,
    Metadata,
    NoReasoning,
    NotServed,
    OnlyFalse,
    PlainVerbosity,
    by_word,
    string_or_list,
)
from deployer.serve.fineness_body import FinenessBody
from deployer.serve.strict_body import Body
from deployer.serve.tool_types import FunctionName

ItemId = Annotated[str, Field(max_length=128)]
Empty = Annotated[list[Any], Field(max_length=0)]


class InputText(Body):
    """Words that go in."""

    type: Literal["input_text"]
    text: str


class InputImage(FinenessBody):
    """A picture that goes in."""

    type: Literal["input_image"]
    image_url: str
    file_id: NotServed


class OutputText(Body):
    """Words that came out earlier."""

    type: Literal["output_text"]
    text: str
    annotations: Empty | None = None
    logprobs: list[dict[str, Any]] | None = None  # said by us; not read again


Part = Annotated[
    Annotated[InputText, Tag("(input_text)")]
    | Annotated[InputImage, Tag("(input_image)")]
    | Annotated[OutputText, Tag("(output_text)")],
    by_word("type", "input_text", "input_image", "output_text"),
]


_STRING_OR_LIST = Discriminator(
    string_or_list, custom_error_type="content", custom_error_message="must be a string or a list"
)
Content = Annotated[Annotated[str, Tag("(string)")] | Annotated[list[Part], Tag("(list)")], _STRING_OR_LIST]


class MessageItem(Body):
    """One turn."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: ItemId | None = None
    status: str | None = None
    phase: NotServed


class CallItem(Body):
    """A call that an answer made."""

    type: Literal["function_call"]
    call_id: ItemId
    name: FunctionName
    arguments: str
    id: ItemId | None = None
    status: str | None = None


class CallOutputItem(Body):
    """What came of a call."""

    type: Literal["function_call_output"]
    call_id: ItemId
    output: Content
    id: ItemId | None = None
    status: str | None = None


Item = Annotated[
    Annotated[MessageItem, Tag("(message)")]
    | Annotated[CallItem, Tag("(function_call)")]
    | Annotated[CallOutputItem, Tag("(function_call_output)")],
    by_word("type", "message", "function_call", "function_call_output", with_role="message"),
]
Input = Annotated[
    Annotated[str, Tag("(string)")] | Annotated[list[Item], Tag("(list)"), Field(min_length=1)],
    _STRING_OR_LIST,
]


class TextFormat(Body):
    """The form of the text; a schema stands beside its type here."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextOptions(Body):
    """How text is written."""

    format: TextFormat | None = None
    verbosity: PlainVerbosity | None = None


class ResponseTool(Body):
    """A function that may be called."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedResponseTool(Body):
    """The one function that must be called."""

    type: Literal["function"]
    name: FunctionName


def _choice_tag(value: Any) -> str | None:
    return (
        "(word)"
        if isinstance(value, str)
        else "(named)"
        if isinstance(value, dict | NamedResponseTool)
        else None
    )


ResponseToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("(word)")]
    | Annotated[NamedResponseTool, Tag("(named)")],
    Discriminator(
        _choice_tag,
        custom_error_type="tool_choice",
        custom_error_message="must be `none`, `auto`, `required` or an object that names a function",
    ),
]


class Reasoning(Body):
    """Models that think aloud are not served."""

    effort: NoReasoning | None = None
    summary: NotServed
    generate_summary: NotServed


class ResponseStreamOptions(Body):
    """How a stream is dressed."""

    include_obfuscation: OnlyFalse | None = None


class PromptBody(Body):
    """What a prompt is made of: body of POST /v1/responses/input_tokens."""

    model: str | None = None
    input: Input
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    truncation: Literal["disabled"] | None = None  # what does not fit is refused

    conversation: NotServed
    reasoning: Reasoning | None = None


class ResponseBody(PromptBody):
    """Body of POST /v1/responses."""

    stream: bool | None = None
    store: bool | None = None  # None: kept, where the server keeps any
    max_output_tokens: AnswerTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = None
    metadata: Metadata | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    safety_identifier: Annotated[str, Field(max_length=256)] | None = None  # stands in the log as `user` does
    background: OnlyFalse | None = None
    service_tier: Literal["auto", "default"] | None = None

    # Of OpenAI's own tools, which nobody calls here.
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    prompt_cache_key: CacheKey | None = None
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: CacheRetention | None = None
    stream_options: ResponseStreamOptions | None = None

    prompt: NotServed
