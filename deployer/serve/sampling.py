"""From the sampling fields of a body to the value that every front end asks with."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from deployer.generation.field_names import PYTHON_NAMES, FieldNames
from deployer.generation.generation_config import GenerationConfig
from deployer.generation.sampling import SamplingRules, sampling_rules
from deployer.serve.api_errors import invalid
from deployer.serve.openai_types import SamplingBody
from deployer.serve.service import Service

CHAT_NAMES = replace(PYTHON_NAMES, max_tokens="max_tokens")


async def body_rules(
    service: Service,
    body: SamplingBody,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    num_choices: int | None = None,
    names: FieldNames = CHAT_NAMES,
) -> SamplingRules:
    """Check what can be checked without the prompt; `num_choices`: where more are made than the body's `n`.

    `names`: what the client calls the fields.

    Raises ApiError 400 or InvalidFieldError.
    """
    if body.stream_options is not None and not body.stream:
        raise invalid("`stream_options` needs `stream: true`", param="stream_options")
    form = body.response_format
    asked = GenerationConfig(
        n=num_choices or body.n or 1,
        max_new_tokens=max_tokens,
        min_new_tokens=body.min_new_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        random_seed=body.seed,
        ignore_eos=bool(body.ignore_eos),
        stop_words=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        bad_words=tuple(body.bad_words or ()),
        stop_token_ids=tuple(body.stop_token_ids or ()),
        bad_token_ids=tuple(body.bad_token_ids or ()),
        logit_bias=_logit_bias(body.logit_bias or {}, service.prompts.tokenizer.vocab_size),
        skip_special_tokens=body.skip_special_tokens is not False,
        include_stop_str_in_output=bool(body.include_stop_str_in_output),
        logprobs=logprobs,
        response_format=None if form is None else form.model_dump(by_alias=True, exclude_none=True),
    )
    check = partial(sampling_rules, asked, defaults=service.sampling, vocabulary=service.prompts, names=names)
    return check() if form is None else await service.beside_the_loop(check)


def _logit_bias(bias: dict[str, float], vocab: int) -> dict[int, float]:
    last = str(vocab - 1)
    # By their digits: an id of thousands is no number to Python, and `05` would be a second one for 5.
    wrong = sorted(
        key
        for key in bias
        if not (key.isascii() and key.isdigit())
        or (key[0] == "0" and key != "0")
        or (len(key), key) > (len(last), last)
    )
    if wrong:
        raise invalid(
            f"`logit_bias`: {_listed(wrong)}: keys are token ids from 0 to {vocab - 1}", param="logit_bias"
        )
    return {int(key): value for key, value in bias.items()}


def _listed(values: Iterable[str]) -> str:
    shown = [f"`{value if len(value) <= 40 else value[:37] + '...'}`" for value in values]
    return ", ".join(shown[:8]) + (" ..." if len(shown) > 8 else "")
