"""Bodies of the endpoints that count and price: /tokenize, /detokenize, /v1/encode, /v1/images/price."""

from typing import Annotated

from pydantic import Field, model_validator

from deployer.serve.field_types import TokenId
from deployer.serve.fineness_body import FinenessBody
from deployer.serve.message_types import Message
from deployer.serve.schema_rules import absent, both, fits_one, given
from deployer.serve.strict_body import Body
from deployer.serve.tool_types import Tool


class TokenizeBody(Body):
    """Body of POST /tokenize (vLLM's): a text or a conversation."""

    model_config = fits_one(
        both(given("prompt"), absent("messages")), both(given("messages"), absent("prompt"))
    )
    model: str | None = None
    prompt: str | None = None
    add_special_tokens: bool = True  # of a text: what the model wants around a prompt, usually bos
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    tools: list[Tool] | None = None  # of a conversation
    add_generation_prompt: bool = True  # of a conversation: the beginning of the answer
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _one_of_two(self) -> "TokenizeBody":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("must hold `prompt` or `messages`, one of them")
        return self


class DetokenizeBody(Body):
    """Body of POST /detokenize (vLLM's)."""

    model: str | None = None
    tokens: list[TokenId]


class EncodeBody(Body):
    """Body of POST /v1/encode (LMDeploy's): texts to token ids."""

    model: str | None = None
    input: str | list[str]
    do_preprocess: bool = False  # through the chat template, as one user's message
    add_bos: bool = True


class PricedImage(FinenessBody):
    """A picture, or one that is not there yet: its size."""

    model_config = fits_one(
        both(given("url"), absent("width", "height")), both(given("width", "height"), absent("url"))
    )
    url: str | None = None
    width: Annotated[int, Field(ge=1, le=2**20)] | None = None
    height: Annotated[int, Field(ge=1, le=2**20)] | None = None

    @model_validator(mode="after")
    def _url_or_size(self) -> "PricedImage":
        sized = self.width is not None and self.height is not None
        half = (self.width is None) != (self.height is None)
        if half or sized == (self.url is not None):
            raise ValueError("must hold `url`, or `width` and `height`")
        return self


class PriceBody(Body):
    """Body of POST /v1/images/price."""

    model: str | None = None
    images: Annotated[list[PricedImage], Field(min_length=1)]
