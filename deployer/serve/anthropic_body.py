"""Bodies of /v1/messages and /v1/messages/count_tokens: Anthropic's fields as far as they are served.

All else is refused; `docs/server.md` says what each field does.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, Tag, WithJsonSchema, model_validator

from deployer.serve.anthropic_blocks import (
    TEXT_OR_BLOCKS,
    AssistantBlock,
    CacheControl,
    TextBlock,
    UserBlock,
)
from deployer.serve.field_types import (
    AnswerTokens,
    NonNegative,
    NotServed,
    OnlyEmpty,
    OnlyFalse,
    StopText,
    by_word,
    only,
)
from deployer.serve.schema_rules import absent, both, fits_one, given
from deployer.serve.strict_body import Body
from deployer.serve.tool_types import FunctionName


class UserTurn(Body):
    """What the user says, shows and answers to calls."""

    role: Literal["user"]
    content: Annotated[
        Annotated[str, Tag("(string)")] | Annotated[list[UserBlock], Field(min_length=1), Tag("(list)")],
        TEXT_OR_BLOCKS,
    ]


class AssistantTurn(Body):
    """What the model said and called; an answer without a word has no blocks."""

    role: Literal["assistant"]
    content: Annotated[
        Annotated[str, Tag("(string)")] | Annotated[list[AssistantBlock], Tag("(list)")],
        TEXT_OR_BLOCKS,
    ]


class SystemTurn(Body):
    """Instructions that come later."""

    role: Literal["system"]
    content: Annotated[
        Annotated[str, Tag("(string)")] | Annotated[list[TextBlock], Tag("(list)")], TEXT_OR_BLOCKS
    ]


Turn = Annotated[
    Annotated[UserTurn, Tag("(user)")]
    | Annotated[AssistantTurn, Tag("(assistant)")]
    | Annotated[SystemTurn, Tag("(system)")],
    by_word("role", "user", "assistant", "system"),
]


class ClientTool(Body):
    """A function that the client runs."""

    name: FunctionName
    description: str | None = None
    input_schema: dict[str, Any]
    type: (
        Annotated[
            str,
            only(
                "custom", why="since Anthropic's own tools are not served; describe it by an `input_schema`"
            ),
            WithJsonSchema({"const": "custom"}),
        ]
        | None
    ) = None
    strict: bool | None = None  # hold a call to the schema also where the model is free to call
    allowed_callers: list[Literal["direct"]] | None = None
    defer_loading: OnlyFalse | None = None
    eager_input_streaming: bool | None = None  # inputs are sent as they are written, whatever it says
    input_examples: OnlyEmpty | None = None
    cache_control: CacheControl | None = None


class ToolWanted(Body):
    """Whether and what to call."""

    model_config = fits_one(
        given("name", type=("tool",)),
        both(given(type=("auto", "any", "none")), absent("name")),
    )
    type: Literal["auto", "any", "tool", "none"]
    name: FunctionName | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _names_its_tool(self) -> "ToolWanted":
        if (self.name is not None) != (self.type == "tool"):
            raise ValueError("must hold `name` where its `type` is `tool`, and only there")
        return self


class SchemaForm(Body):
    """The form of an answer."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Body):
    """What the answer is held to."""

    format: SchemaForm | None = None
    effort: (
        Annotated[
            str,
            only("high", why="no model here knows another effort; leave it out"),
            WithJsonSchema({"const": "high"}),
        ]
        | None
    ) = None
    task_budget: NotServed


class Thinking(Body):
    """Models that think aloud are not served: one that may choose never does."""

    type: Annotated[
        str,
        only("disabled", "adaptive", why="since no model here thinks aloud; leave `thinking` out"),
        WithJsonSchema({"enum": ["disabled", "adaptive"]}),
    ]
    display: Literal["summarized", "omitted"] | None = None
    budget_tokens: NotServed


class Edit(Body):
    """A change of the conversation ahead of the prompt: thoughts, of which there are none, may be cleared."""

    type: Annotated[
        str,
        only(
            "clear_thinking_20251015",
            why="since the conversation is taken as it is; shorten it before you send it",
        ),
        WithJsonSchema({"const": "clear_thinking_20251015"}),
    ]
    keep: Any = None


class ContextManagement(Body):
    """What to leave out of a long conversation."""

    edits: list[Edit] | None = None


class User(Body):
    """Who asks; stands in the log line."""

    user_id: Annotated[str, Field(max_length=256)] | None = None


class CountBody(Body):
    """Body of POST /v1/messages/count_tokens."""

    model: str
    messages: Annotated[list[Turn], Field(min_length=1)]
    system: (
        Annotated[Annotated[str, Tag("(string)")] | Annotated[list[TextBlock], Tag("(list)")], TEXT_OR_BLOCKS]
        | None
    ) = None
    tools: list[ClientTool] | None = None
    tool_choice: ToolWanted | None = None
    output_config: OutputConfig | None = None
    thinking: Thinking | None = None
    cache_control: CacheControl | None = None
    context_management: ContextManagement | None = None
    mcp_servers: OnlyEmpty | None = None
    speed: Literal["standard"] | None = None

    max_tokens: AnswerTokens | None = None  # this and what follows counts for nothing in a prompt
    metadata: User | None = None
    stop_sequences: list[StopText] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: NonNegative | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None  # there is one tier
    # Refused where it is read, in words that its client goes on from.
    thread: Annotated[dict[str, Any] | None, WithJsonSchema({"type": "null"})] = None
    container: NotServed
    diagnostics: NotServed
    inference_geo: NotServed


class MessagesBody(CountBody):
    """Body of POST /v1/messages."""

    max_tokens: AnswerTokens
