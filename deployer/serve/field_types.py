"""Types of fields that several bodies have.

A field typed `NotServed` is one that OpenAI knows and we don't: only `null` passes, so that nobody believes
it works.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema

from deployer.generation.generation_config import INT64

NotServed = Annotated[None, Field(default=None, description="not served in this version")]
NonNegative = Annotated[int, Field(ge=0, lt=INT64)]
# Where token ids and lengths of answers stand in a schema; what is served bounds them (`served_schema.py`).
TOKEN_ID, TOKEN_ID_KEYS, ANSWER_TOKENS = "token-id", "token-id-keys", "answer-tokens"
AnswerTokens = Annotated[int, Field(ge=1, lt=INT64, json_schema_extra={"format": ANSWER_TOKENS})]
AnswerTokensOrNone = Annotated[int, Field(ge=0, lt=INT64, json_schema_extra={"format": ANSWER_TOKENS})]
TokenId = Annotated[int, Field(ge=0, lt=2**31, json_schema_extra={"format": TOKEN_ID})]
LogitBias = Annotated[
    dict[str, Annotated[float, Field(ge=-100, le=100)]],
    Field(json_schema_extra={"format": TOKEN_ID_KEYS, "propertyNames": {"pattern": "^[0-9]+$"}}),
]
StopText = Annotated[str, Field(min_length=1)]


def _false(value: bool) -> bool:
    if value:
        raise ValueError("must be false")
    return value


# `Literal[False]` would take 0 for it.
OnlyFalse = Annotated[bool, AfterValidator(_false), WithJsonSchema({"type": "boolean", "const": False})]
# OpenAI's limits: 16 pairs, keys of 64 and values of 512 characters.
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


# Tags in brackets never collide with a field's name, so `read_body` can take them out of an error's path.
def string_or_list(value: Any) -> str | None:
    """Return the tag of a field that is either."""
    return "(string)" if isinstance(value, str) else "(list)" if isinstance(value, list) else None


def by_type(*kinds: str, with_role: str | None = None) -> Discriminator:
    """Return what tells objects apart by their `type`; one without, but with a role, is `with_role`."""

    def tag(value: Any) -> str | None:
        kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
        if isinstance(value, dict) and kind is None and "role" in value:
            kind = with_role
        return f"({kind})" if kind in kinds else None

    listed = ", ".join(f"`{kind}`" for kind in kinds)
    return Discriminator(
        tag,
        custom_error_type="kind",
        custom_error_message=f"must be an object whose `type` is one of {listed}",
    )


StopTexts = Annotated[
    Annotated[StopText, Tag("(string)")] | Annotated[list[StopText], Tag("(list)")],
    Discriminator(
        string_or_list,
        custom_error_type="strings",
        custom_error_message="must be a string or a list of strings",
    ),
]
