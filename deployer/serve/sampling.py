"""From the sampling fields of a body, and the config's defaults, to what the engine takes."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from deployer.config.schema import SamplingConfig
from deployer.prompt.assemble import Prompt, PromptBuilder
from deployer.serve.api_errors import invalid
from deployer.serve.openai_types import INT64, SamplingBody
from engines.messages import Sampling

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRules:
    """What happens to the text of a choice after the engine: the part of sampling that knows characters."""

    stop: tuple[str, ...]
    stop_token_ids: tuple[int, ...]  # those of the request: the answer says which of them ended it
    skip_special_tokens: bool
    include_stop: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingRules:
    """A body's sampling fields, checked and completed, before the prompt is known."""

    body: SamplingBody
    max_tokens: int | None  # what the request or the config asks for; None: what fits
    first_seed: int
    logit_bias: dict[int, float]
    bad_sequences: tuple[tuple[int, ...], ...]
    logprobs: int | None

    @property
    def num_choices(self) -> int:
        """How many answers a prompt gets."""
        return self.body.n or 1


def sampling_rules(
    body: SamplingBody,
    *,
    defaults: SamplingConfig,
    prompts: PromptBuilder,
    max_tokens: int | None,
    logprobs: int | None,
) -> SamplingRules:
    """Check what can be checked without the prompt. Raises ApiError 400."""
    if body.stream_options is not None and not body.stream:
        raise invalid("`stream_options` needs `stream: true`", param="stream_options")
    vocab = prompts.tokenizer.vocab_size
    _check_ids("stop_token_ids", body.stop_token_ids or (), vocab)
    _check_ids("bad_token_ids", body.bad_token_ids or (), vocab)
    limit = max_tokens if max_tokens is not None else defaults.max_new_tokens
    if limit is not None and (body.min_new_tokens or 0) > limit:
        raise invalid(
            f"`min_new_tokens`: {body.min_new_tokens} is more than the {limit} tokens the answer may have",
            param="min_new_tokens",
        )
    return SamplingRules(
        body=body,
        max_tokens=limit,
        first_seed=secrets.randbits(63) if body.seed is None else body.seed,
        logit_bias=_logit_bias(body.logit_bias or {}, vocab),
        bad_sequences=(
            *((token_id,) for token_id in body.bad_token_ids or ()),
            *prompts.bad_sequences(body.bad_words or ()),
        ),
        logprobs=logprobs,
    )


def text_rules(body: SamplingBody, prompts: PromptBuilder) -> TextRules:
    """Return how text is cut; the template's own stop words count beside the request's."""
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return TextRules(
        stop=(*stop, *prompts.stop_words),
        stop_token_ids=tuple(body.stop_token_ids or ()),
        skip_special_tokens=body.skip_special_tokens is not False,
        include_stop=bool(body.include_stop_str_in_output),
    )


def sampling_of(
    rules: SamplingRules, prompt: Prompt, *, choice: int, defaults: SamplingConfig, prompts: PromptBuilder
) -> Sampling:
    """Return what the engine takes for one choice; choice i of a seeded request has seed + i."""
    body = rules.body
    return Sampling(
        max_new_tokens=_room(rules, prompt, prompts.session_len),
        temperature=_or(body.temperature, defaults.temperature),
        top_k=_or(body.top_k, defaults.top_k),
        top_p=_or(body.top_p, defaults.top_p),
        min_p=_or(body.min_p, defaults.min_p),
        repetition_penalty=_or(body.repetition_penalty, defaults.repetition_penalty),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        seed=(rules.first_seed + choice + INT64) % (2 * INT64) - INT64,
        min_new_tokens=body.min_new_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        eos_token_ids=prompts.eos_token_ids,
        stop_token_ids=(*prompts.stop_token_ids, *(body.stop_token_ids or ())),
        bad_sequences=rules.bad_sequences,
        logit_bias=rules.logit_bias,
        logprobs=rules.logprobs,
    )


def _or(asked: T | None, default: T) -> T:
    return default if asked is None else asked


def _room(rules: SamplingRules, prompt: Prompt, session_len: int) -> int:
    """Return how many tokens the answer may have; more than fits is refused, not cut. Raises ApiError 400."""
    used, images = len(prompt.token_ids), prompt.num_image_tokens
    room = session_len - used
    if room >= max(1, rules.max_tokens or 1):
        return rules.max_tokens or room
    raise invalid(
        f"the prompt takes {used} tokens ({images} of them images), the answer may take "
        f"{rules.max_tokens or 1}: together at most {session_len} (`session_len`); "
        f"shorten the prompt or ask for at most {max(0, room)} tokens",
        param="max_tokens",
        code="context_length_exceeded",
    )


def _check_ids(field: str, ids: Iterable[int], vocab: int) -> None:
    beyond = sorted({token_id for token_id in ids if token_id >= vocab})
    if beyond:
        raise invalid(f"`{field}`: {_listed(beyond)}: token ids end at {vocab - 1}", param=field)


def _logit_bias(bias: dict[str, float], vocab: int) -> dict[int, float]:
    wrong = sorted(key for key in bias if not (key.isascii() and key.isdigit() and int(key) < vocab))
    if wrong:
        raise invalid(
            f"`logit_bias`: {_listed(wrong)}: keys are token ids from 0 to {vocab - 1}", param="logit_bias"
        )
    return {int(key): value for key, value in bias.items()}


def _listed(values: Sequence[object]) -> str:
    return ", ".join(f"`{value}`" for value in values[:8]) + (" ..." if len(values) > 8 else "")
