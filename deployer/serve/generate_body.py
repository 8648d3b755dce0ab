"""Body of POST /generate: LMDeploy's native fields as far as they are served; all else is refused."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from deployer.serve.field_types import AnswerTokens, NonNegative, NotServed, StopTexts, TokenId
from deployer.serve.message_types import ImageUrl
from deployer.serve.schema_rules import absent, both, fits_one, given
from deployer.serve.strict_body import Body


def _image_tag(value: Any) -> str | None:
    if isinstance(value, str):
        return "(url)"
    return "(object)" if isinstance(value, dict | ImageUrl) else None


def _images_tag(value: Any) -> str | None:
    return "(list)" if isinstance(value, list) else "(one)"


ImageData = Annotated[
    Annotated[str, Tag("(url)")] | Annotated[ImageUrl, Tag("(object)")],
    Discriminator(
        _image_tag,
        custom_error_type="image_data",
        custom_error_message="must be a URL or an object with one in `url`",
    ),
]
ImagesData = Annotated[
    Annotated[ImageData, Tag("(one)")] | Annotated[list[ImageData], Tag("(list)")],
    Discriminator(_images_tag),
]


class GenerateBody(Body):
    """A text or token ids, and pictures in the text; `None` takes the server's default."""

    model_config = fits_one(
        both(given("prompt"), absent("input_ids")),
        both(given("input_ids"), absent("prompt", "image_data")),
    )
    model: str | None = None  # an extension: the name of an adapter
    prompt: str | None = None
    input_ids: Annotated[list[TokenId], Field(min_length=1)] | None = None
    image_data: ImagesData | None = None
    return_logprob: bool | None = None
    stream: bool | None = None
    max_tokens: AnswerTokens | None = None
    stop: StopTexts | None = None
    stop_token_ids: list[TokenId] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: NonNegative | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    sampling_params: Annotated[
        None, Field(description="SGLang's, not served here: its fields stand beside `prompt`")
    ] = None
    session_id: NotServed
    spaces_between_special_tokens: NotServed

    @model_validator(mode="after")
    def _one_prompt(self) -> "GenerateBody":
        if (self.prompt is None) == (self.input_ids is None):
            raise ValueError("must hold `prompt` or `input_ids`, one of them")
        if self.image_data is not None and self.prompt is None:
            raise ValueError("must hold `prompt` beside `image_data`: token ids have no places for pictures")
        return self
