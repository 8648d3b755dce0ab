"""Bodies of the HTTP API: OpenAI's fields as far as they are served, and our extensions; all else is refused.

Numbers are strict (`"1"` is no number, NaN is none either); `docs/server.md` says what each field does.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from deployer.generation.generation_config import INT64, MAX_CHOICES, MAX_LOGPROBS
from deployer.serve.field_types import (
    AnswerTokens,
    AnswerTokensOrNone,
    CacheKey,
    CacheOptions,
    CacheRetention,
    LogitBias,
    Metadata,
    NonNegative,
    NoReasoning,
    NotServed,
    OnlyFalse,
    PlainVerbosity,
    StopText,
    StopTexts,
    TokenId,
)
from deployer.serve.message_types import Message
from deployer.serve.schema_rules import absent, fits, fits_one, given
from deployer.serve.strict_body import Body
from deployer.serve.tool_types import Tool, ToolChoice
from deployer.serve.video_body import MediaBounds


class StreamOptions(Body):
    """What a stream says beside text."""

    include_usage: bool = False
    include_obfuscation: OnlyFalse | None = None


class JsonSchema(Body):
    """A schema with its name."""

    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None  # a schema is always enforced


class ResponseFormat(Body):
    """The form that an answer must have; `regex`, `regex_schema` and `grammar` are extensions."""

    model_config = fits_one(
        given(type=("text", "json_object")),
        *(given(kind, type=(kind,)) for kind in ("json_schema", "regex", "regex_schema", "grammar")),
    )
    type: Literal["text", "json_object", "json_schema", "regex", "regex_schema", "grammar"]
    json_schema: JsonSchema | None = None
    regex: str | None = None
    regex_schema: str | None = None  # LMDeploy's name
    grammar: str | None = None


_FREE = {"properties": {"response_format": {"properties": {"type": {"enum": ["text"]}}}}}
_CAN_GO_ON = {
    "properties": {
        "ignore_eos": {"enum": [None, False]},
        "min_new_tokens": {"enum": [None, 0]},
        "bad_words": {"maxItems": 0},
        "bad_token_ids": {"maxItems": 0},
    }
}
_SAMPLING_RULES = (
    (absent("stream_options"), given(stream=(True,))),
    (absent("response_format"), _FREE, _CAN_GO_ON),
)


_NOT_STREAMED = {"properties": {"stream": {"enum": [None, False]}}}


class SamplingBody(Body):
    """Fields of chat and plain completions; `None` takes the server's default (`sampling` in the config)."""

    model_config = fits(*_SAMPLING_RULES)
    model: str | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: AnswerTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: LogitBias | None = None
    seed: Annotated[int, Field(ge=-INT64, lt=INT64)] | None = None
    stop: StopTexts | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    safety_identifier: Annotated[str, Field(max_length=256)] | None = None  # OpenAI's newer name of it

    # Extensions; the openai package sends them through `extra_body`.
    top_k: NonNegative | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    min_new_tokens: NonNegative | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[TokenId] | None = None
    bad_words: list[StopText] | None = None
    bad_token_ids: list[TokenId] | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    response_format: ResponseFormat | None = None  # OpenAI's in chat only
    timings: bool | None = None  # say in `usage` where the time went

    metadata: Metadata | None = None
    service_tier: Literal["auto", "default"] | None = None  # there is one tier
    store: OnlyFalse | None = None  # nothing is kept


class ChatBody(SamplingBody):
    """Body of POST /v1/chat/completions."""

    model_config = fits(*_SAMPLING_RULES, (absent("top_logprobs"), given(logprobs=(True,))))
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: AnswerTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None  # None: auto
    parallel_tool_calls: bool | None = None  # False: at most one call
    mm_processor_kwargs: MediaBounds | None = None  # of pictures and videos that say nothing of their own

    audio: NotServed
    function_call: NotServed
    functions: NotServed
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    prediction: NotServed
    prompt_cache_key: CacheKey | None = None
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: CacheRetention | None = None
    reasoning_effort: NoReasoning | None = None
    verbosity: PlainVerbosity | None = None
    web_search_options: NotServed


TokenPrompt = Annotated[list[TokenId], Field(min_length=1)]


def _prompt_tag(prompt: Any) -> str | None:
    if isinstance(prompt, str):
        return "(string)"
    if not isinstance(prompt, list) or not prompt:
        return None
    if isinstance(prompt[0], str):
        return "(strings)"
    return "(token_lists)" if isinstance(prompt[0], list) else "(tokens)"


class CompletionBody(SamplingBody):
    """Body of POST /v1/completions."""

    model_config = fits(
        *_SAMPLING_RULES,
        (given(echo=(True,)), {"properties": {"max_tokens": {"not": {"const": 0}}}}),
        (absent("logprobs"), {"properties": {"echo": {"enum": [None, False]}}}, _NOT_STREAMED),
    )

    prompt: Annotated[
        Annotated[str, Tag("(string)")]
        | Annotated[list[str], Tag("(strings)")]
        | Annotated[TokenPrompt, Tag("(tokens)")]
        | Annotated[list[TokenPrompt], Tag("(token_lists)")],
        Discriminator(
            _prompt_tag,
            custom_error_type="prompt_type",
            custom_error_message="must be a string, token ids, or a list of either, and not empty",
        ),
    ]
    max_tokens: AnswerTokensOrNone | None = None  # 0: the prompt alone, with `echo`
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None

    suffix: NotServed
