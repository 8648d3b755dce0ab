"""Types of fields that several bodies have.

A field typed `NotServed` is one that the API knows and we don't: only `null` passes, so that nobody believes
it works. A field that says so in words of its own is typed the same: the description is what a refusal says.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema

from deployer.generation.generation_config import INT64
from deployer.serve.strict_body import Body

NotServed = Annotated[None, Field(default=None, description="not served in this version: leave it out")]
NonNegative = Annotated[int, Field(ge=0, lt=INT64)]
NO_SUCH = "no-such-"  # begins the name of the fault of an object that `by_word` has no type for
# Where token ids and lengths of answers stand in a schema; what is served bounds them (`served_schema.py`).
TOKEN_ID, TOKEN_ID_KEYS, ANSWER_TOKENS = "token-id", "token-id-keys", "answer-tokens"
AnswerTokens = Annotated[int, Field(ge=1, lt=INT64, json_schema_extra={"format": ANSWER_TOKENS})]
AnswerTokensOrNone = Annotated[int, Field(ge=0, lt=INT64, json_schema_extra={"format": ANSWER_TOKENS})]
TokenId = Annotated[int, Field(ge=0, lt=2**31, json_schema_extra={"format": TOKEN_ID})]
LogitBias = Annotated[
    dict[str, Annotated[float, Field(ge=-100, le=100)]],
    Field(json_schema_extra={"format": TOKEN_ID_KEYS, "propertyNames": {"pattern": "^(0|[1-9][0-9]*)$"}}),
]
StopText = Annotated[str, Field(min_length=1)]


def _false(value: bool) -> bool:
    if value:
        raise ValueError("must be false; leave it out")
    return value


# `Literal[False]` would take 0 for it.
OnlyFalse = Annotated[bool, AfterValidator(_false), WithJsonSchema({"type": "boolean", "const": False})]


def _empty(value: list[Any]) -> list[Any]:
    if value:
        raise ValueError("must be empty, nothing in it is served in this version; leave it out")
    return value


OnlyEmpty = Annotated[list[Any], AfterValidator(_empty), WithJsonSchema({"type": "array", "maxItems": 0})]


def only(*words: str, why: str) -> Any:
    """Return what holds a word to those that are served; `why` and the way out, behind `;`, end a refusal."""
    listed = " or ".join(f"`{word}`" for word in words)

    def check(word: str) -> str:
        if word not in words:
            raise ValueError(f"must be {listed}, {why}")
        return word

    return AfterValidator(check)


NoReasoning = Annotated[
    str, only("none", why="since no model here thinks aloud; leave it out"), WithJsonSchema({"const": "none"})
]
PlainVerbosity = Annotated[
    str,
    only("medium", why="OpenAI's default, as no model here knows another; say it in words of the prompt"),
    WithJsonSchema({"const": "medium"}),
]
# Hints for OpenAI's cache of prompts: every prefix is kept and looked for anyway, as long as there is room.
CacheKey = Annotated[str, Field(max_length=256)]
CacheRetention = Literal["in_memory", "in-memory"]


class CacheOptions(Body):
    """Which prefixes to keep; how long is not promised."""

    mode: Literal["implicit"] | None = None
    ttl: NotServed


# OpenAI's limits: 16 pairs, keys of 64 and values of 512 characters.
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


# Tags in brackets never collide with a field's name, so `read_body` can take them out of an error's path.
def string_or_list(value: Any) -> str | None:
    """Return the tag of a field that is either."""
    return "(string)" if isinstance(value, str) else "(list)" if isinstance(value, list) else None


def by_word(key: str, *words: str, with_role: str | None = None, way_out: str = "") -> Discriminator:
    """Return what tells objects apart by the word in their `key`.

    `with_role`: the word of one that has none, but a role. `way_out`: what to do in place of other words.
    """

    def tag(value: Any) -> str | None:
        word = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        if isinstance(value, dict) and word is None and "role" in value:
            word = with_role
        return f"({word})" if word in words else None

    listed = ", ".join(f"`{word}`" for word in words) + (f"; {way_out}" if way_out else "")
    return Discriminator(tag, custom_error_type=f"{NO_SUCH}{key}", custom_error_message=listed)


StopTexts = Annotated[
    Annotated[StopText, Tag("(string)")] | Annotated[list[StopText], Tag("(list)")],
    Discriminator(
        string_or_list,
        custom_error_type="strings",
        custom_error_message="must be a string or a list of strings",
    ),
]
