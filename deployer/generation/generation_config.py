"""How one request wants its answers: the plain value that HTTP bodies and Python calls both become.

Ranges are checked when it is made; what needs a vocabulary is checked in `sampling.py`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from deployer.prompt.characters import half_character
from engines.errors import RequestError

MAX_CHOICES = 128  # answers to one prompt (OpenAI's limit of n)
MAX_LOGPROBS = 20  # alternatives a token (OpenAI's limit of top_logprobs)
INT64 = 2**63


class InvalidFieldError(RequestError):
    """One field of a request cannot be taken; `field` names it."""

    def __init__(self, message: str, *, field: str, code: str = "invalid_request") -> None:
        super().__init__(message, code=code)
        self.field = field


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    """Sampling, length and text of one request's answers.

    None takes the deployment's `sampling` group, or for what that group does not hold leaves it out. Raises
    RequestError with every value that is out of its range.
    """

    n: int = 1  # answers to each prompt
    max_new_tokens: int | None = None
    min_new_tokens: int | None = None  # before that no end of text is taken
    temperature: float | None = None  # 0: always the likeliest token
    top_p: float | None = None
    top_k: int | None = None  # 0: all
    min_p: float | None = None
    repetition_penalty: float | None = None  # 1: none; over prompt and answer
    presence_penalty: float | None = None  # over the answer, once for each token that occurred
    frequency_penalty: float | None = None  # over the answer, for each time it occurred
    random_seed: int | None = None  # None: a fresh one; answer i of a prompt has seed + i
    ignore_eos: bool = False
    stop_words: Sequence[str] = ()  # end the answer where they occur in its text, and are cut off
    bad_words: Sequence[str] = ()  # are never written
    stop_token_ids: Sequence[int] = ()
    bad_token_ids: Sequence[int] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # added to the logits of token ids
    skip_special_tokens: bool = True
    include_stop_str_in_output: bool = False  # keep the stop word that ended the answer
    logprobs: int | None = None  # alternatives shown a token; 0: the chosen token alone; None: nothing
    prompt_logprobs: int | None = (
        None  # the same for the tokens of the prompt, none of which the prefix cache gives
    )
    adapter: str | None = None  # name of one of engine.adapters; None: the bare model. HTTP asks by `model`
    response_format: Mapping[str, Any] | None = None  # the form of the text: `response_format.py`

    def __post_init__(self) -> None:
        faults = list(_faults(self))
        if faults:
            raise RequestError("; ".join(faults))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Range:
    """What numbers a field takes."""

    low: float
    high: float
    words: str
    whole: bool = False

    def holds(self, value: Any) -> bool:
        kinds = (int,) if self.whole else (int, float)
        return type(value) in kinds and math.isfinite(value) and self.low <= value <= self.high


_TINY = math.ulp(0.0)
_ALTERNATIVES = _Range(low=0, high=MAX_LOGPROBS, words=f"a whole number from 0 to {MAX_LOGPROBS}", whole=True)
_RANGES: Mapping[str, _Range] = {
    "n": _Range(low=1, high=MAX_CHOICES, words=f"a whole number from 1 to {MAX_CHOICES}", whole=True),
    "max_new_tokens": _Range(low=1, high=INT64, words="a whole number, at least 1", whole=True),
    "min_new_tokens": _Range(low=0, high=INT64, words="a whole number, at least 0", whole=True),
    "temperature": _Range(low=0, high=2, words="a number from 0 to 2"),
    "top_p": _Range(low=_TINY, high=1, words="a number above 0, at most 1"),
    "top_k": _Range(low=0, high=INT64, words="a whole number, at least 0", whole=True),
    "min_p": _Range(low=0, high=1, words="a number from 0 to 1"),
    "repetition_penalty": _Range(low=_TINY, high=10, words="a number above 0, at most 10"),
    "presence_penalty": _Range(low=-2, high=2, words="a number from -2 to 2"),
    "frequency_penalty": _Range(low=-2, high=2, words="a number from -2 to 2"),
    "random_seed": _Range(low=-INT64, high=INT64 - 1, words="a whole number of 64 bits", whole=True),
    "logprobs": _ALTERNATIVES,
    "prompt_logprobs": _ALTERNATIVES,
}
_TEXTS = ("bad_words", "stop_words")
_IDS = ("bad_token_ids", "stop_token_ids")
_BIAS = _Range(low=-100, high=100, words="a number from -100 to 100")
_TOKEN_ID = _Range(low=0, high=2**31 - 1, words="a token id", whole=True)


def _faults(config: GenerationConfig) -> Iterator[str]:
    """Yield what is wrong with each field, in the order of the fields."""
    for name in (item.name for item in fields(config)):
        value = getattr(config, name)
        if name in _RANGES:
            if (value is not None or name == "n") and not _RANGES[name].holds(value):
                yield f"{name}={value!r}: must be {_RANGES[name].words}"
        elif name in _TEXTS:
            if isinstance(value, str) or not all(isinstance(word, str) and word for word in value):
                yield f"{name}={value!r}: must be a list of strings, none of them empty"
            elif any(half_character(word) for word in value):
                yield f"{name}={value!r}: must be Unicode text, without halves of surrogate pairs"
        elif name in _IDS:
            if not all(_TOKEN_ID.holds(token_id) for token_id in value):
                yield f"{name}={value!r}: must be a list of token ids"
        elif name == "logit_bias":
            if not all(_TOKEN_ID.holds(key) and _BIAS.holds(bias) for key, bias in value.items()):
                yield f"{name}={value!r}: must map token ids to numbers from -100 to 100"
        elif name == "adapter":
            if value is not None and not (isinstance(value, str) and value):
                yield f"{name}={value!r}: must be the name of an adapter, or None for the bare model"
        elif name == "response_format":
            if value is not None and not isinstance(value, Mapping):
                yield f"{name}={value!r}: must be a mapping with `type`"
        elif not isinstance(value, bool):
            yield f"{name}={value!r}: must be True or False"
