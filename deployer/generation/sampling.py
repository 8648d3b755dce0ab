"""From what a request asks for, and the config's defaults, to what the engine takes."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from deployer.config.schema import SamplingConfig
from deployer.generation.field_names import PYTHON_NAMES, FieldNames
from deployer.generation.generation_config import INT64, GenerationConfig, InvalidFieldError
from deployer.generation.response_format import grammar_of
from deployer.prompt.tokenizer import Tokenizer
from engines.messages import Sampling

T = TypeVar("T")


class Vocabulary(Protocol):
    """The part of a `PromptBuilder` that sampling reads."""

    tokenizer: Tokenizer
    session_len: int
    eos_token_ids: tuple[int, ...]
    stop_token_ids: tuple[int, ...]
    stop_words: tuple[str, ...]

    def bad_sequences(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Return the token sequences that write one of `words`."""
        ...


class Counted(Protocol):
    """A prompt whose tokens are known; its pictures may not be decoded yet."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All tokens, image slots included."""
        ...

    @property
    def num_image_tokens(self) -> int:
        """Tokens of all image slots together."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRules:
    """What happens to the text of a choice after the engine: the part of sampling that knows characters."""

    stop: tuple[str, ...]
    stop_token_ids: tuple[int, ...]  # those of the request: the answer says which of them ended it
    skip_special_tokens: bool
    include_stop: bool
    shown_ids: frozenset[int]  # control tokens that stand in the text all the same


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingRules:
    """What a request asks for, checked and completed, before the prompt is known."""

    asked: GenerationConfig
    max_new_tokens: int | None  # what the request or the config asks for; None: what fits
    first_seed: int
    bad_sequences: tuple[tuple[int, ...], ...]
    grammar: str | None
    names: FieldNames = PYTHON_NAMES  # of fields in errors
    shown_ids: frozenset[int] = frozenset()  # control tokens that an answer is read by, shown in its text
    prompt_logprobs: int | None = None  # alternatives a token of the prompt; None: nothing about these


def sampling_rules(
    asked: GenerationConfig,
    *,
    defaults: SamplingConfig,
    vocabulary: Vocabulary,
    names: FieldNames = PYTHON_NAMES,
) -> SamplingRules:
    """Check what can be checked without the prompt. Raises InvalidFieldError."""
    vocab = vocabulary.tokenizer.vocab_size
    for field in ("stop_token_ids", "bad_token_ids", "logit_bias"):
        _check_ids(field, getattr(asked, field), vocab)
    limit = _or(asked.max_new_tokens, defaults.max_new_tokens)
    if limit is not None and (asked.min_new_tokens or 0) > limit:
        raise InvalidFieldError(
            f"`min_new_tokens`: {asked.min_new_tokens} is more than the {limit} tokens the answer may have",
            field="min_new_tokens",
        )
    grammar = grammar_of(asked.response_format, names=names)
    if grammar is not None:
        _check_beside_grammar(asked, names)
    return SamplingRules(
        asked=asked,
        grammar=grammar,
        names=names,
        prompt_logprobs=asked.prompt_logprobs,
        max_new_tokens=limit,
        first_seed=_or(asked.random_seed, secrets.randbits(63)),
        bad_sequences=(
            *((token_id,) for token_id in asked.bad_token_ids),
            *vocabulary.bad_sequences(asked.bad_words),
        ),
    )


def _check_beside_grammar(asked: GenerationConfig, names: FieldNames) -> None:
    """Raise InvalidFieldError for what could leave a grammar without a token that may come."""
    for field in ("bad_token_ids", "bad_words", "ignore_eos", "min_new_tokens"):
        if getattr(asked, field):
            raise InvalidFieldError(
                f"`{field}` could leave the form of the answer no token to go on with: drop it, or drop the "
                f"form (`{names.form}`, tools)",
                field=field,
            )


def with_tools(rules: SamplingRules, *, grammar: str | None, shown_ids: frozenset[int]) -> SamplingRules:
    """Return the rules of answers that may call tools. Raises InvalidFieldError."""
    if grammar is not None:
        _check_beside_grammar(rules.asked, rules.names)
    return replace(rules, grammar=grammar or rules.grammar, shown_ids=shown_ids)


def with_echo(rules: SamplingRules, *, logprobs: int | None, max_tokens: int | None) -> SamplingRules:
    """Return the rules of answers that follow their prompt, or of none. Raises InvalidFieldError."""
    if max_tokens == 0 and rules.asked.min_new_tokens:
        raise InvalidFieldError(
            f"`min_new_tokens`: {rules.asked.min_new_tokens} is more than the 0 tokens the answer may have",
            field="min_new_tokens",
        )
    return replace(
        rules, prompt_logprobs=logprobs, max_new_tokens=0 if max_tokens == 0 else rules.max_new_tokens
    )


def text_rules(rules: SamplingRules, vocabulary: Vocabulary) -> TextRules:
    """Return how text is cut; the template's own stop words count beside the request's."""
    asked = rules.asked
    return TextRules(
        stop=(*asked.stop_words, *vocabulary.stop_words),
        stop_token_ids=tuple(asked.stop_token_ids),
        skip_special_tokens=asked.skip_special_tokens,
        include_stop=asked.include_stop_str_in_output,
        shown_ids=rules.shown_ids,
    )


def sampling_of(
    rules: SamplingRules, prompt: Counted, *, choice: int, defaults: SamplingConfig, vocabulary: Vocabulary
) -> Sampling:
    """Return what the engine takes for one choice; choice i of a seeded request has seed + i."""
    asked = rules.asked
    return Sampling(
        max_new_tokens=_room(rules, prompt, vocabulary.session_len),
        temperature=_or(asked.temperature, defaults.temperature),
        top_k=_or(asked.top_k, defaults.top_k),
        top_p=_or(asked.top_p, defaults.top_p),
        min_p=_or(asked.min_p, defaults.min_p),
        repetition_penalty=_or(asked.repetition_penalty, defaults.repetition_penalty),
        presence_penalty=asked.presence_penalty or 0.0,
        frequency_penalty=asked.frequency_penalty or 0.0,
        seed=(rules.first_seed + choice + INT64) % (2 * INT64) - INT64,
        min_new_tokens=asked.min_new_tokens or 0,
        ignore_eos=asked.ignore_eos,
        eos_token_ids=vocabulary.eos_token_ids,
        stop_token_ids=(*vocabulary.stop_token_ids, *asked.stop_token_ids),
        bad_sequences=rules.bad_sequences,
        logit_bias=dict(asked.logit_bias),
        logprobs=asked.logprobs,
        prompt_logprobs=rules.prompt_logprobs,
        grammar=rules.grammar,
    )


def _or(asked: T | None, default: T) -> T:
    return default if asked is None else asked


def _room(rules: SamplingRules, prompt: Counted, session_len: int) -> int:
    """Return how many tokens the answer may have.

    More than fits is refused where the request asked for it; of what the config gives it gets what fits.
    """
    used, images = len(prompt.token_ids), prompt.num_image_tokens
    room, asked = session_len - used, rules.asked.max_new_tokens or 1
    if room >= asked:
        return room if rules.max_new_tokens is None else min(room, rules.max_new_tokens)
    raise InvalidFieldError(
        f"the prompt takes {used} tokens ({images} of them images), the answer may take "
        f"{asked}: together at most {session_len} (`session_len`); "
        f"shorten the prompt or ask for at most {max(0, room)} tokens",
        field=rules.names.max_tokens,
        code="context_length_exceeded",
    )


def _check_ids(field: str, ids: Iterable[int], vocab: int) -> None:
    beyond = sorted({token_id for token_id in ids if token_id >= vocab})
    if beyond:
        shown = ", ".join(f"`{token_id}`" for token_id in beyond[:8]) + (" ..." if len(beyond) > 8 else "")
        raise InvalidFieldError(f"`{field}`: {shown}: token ids end at {vocab - 1}", field=field)
