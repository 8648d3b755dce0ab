"""What a request asks for and what the config gives where it says nothing."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from fake_prompts import FakePrompts
from serving_configs import SAMPLING

from deployer.config.ranges import RANGES
from deployer.generation.generation_config import GenerationConfig, InvalidFieldError
from deployer.generation.sampling import sampling_of, sampling_rules
from engines.messages import Sampling


@dataclass(frozen=True)
class Prompt:
    """So many tokens."""

    token_ids: tuple[int, ...]
    num_image_tokens: int = 0


def sampled(*, left: int, default: int | None, **fields: Any) -> Sampling:
    """Return what the engine takes of a request behind which `left` tokens of the session are free."""
    vocabulary: Any = FakePrompts()
    defaults = replace(SAMPLING, max_new_tokens=default)
    rules = sampling_rules(GenerationConfig(**fields), defaults=defaults, vocabulary=vocabulary)
    prompt = Prompt((5,) * (vocabulary.session_len - left))
    return sampling_of(rules, prompt, choice=0, defaults=defaults, vocabulary=vocabulary)


@pytest.mark.parametrize(
    ("default", "asked", "answer"), [(None, None, 9), (4, None, 4), (100, None, 9), (100, 9, 9), (4, 7, 7)]
)
def test_who_asks_for_no_length_gets_the_configs_or_what_fits(
    default: int | None, asked: int | None, answer: int
) -> None:
    assert sampled(left=9, default=default, max_new_tokens=asked).max_new_tokens == answer


def test_who_asks_for_more_than_fits_is_refused() -> None:
    with pytest.raises(InvalidFieldError, match=r"the answer may take 10: together .* at most 9 tokens"):
        sampled(left=9, default=4, max_new_tokens=10)


@pytest.mark.parametrize("default", [None, 4])
def test_a_prompt_that_fills_the_session_is_refused(default: int | None) -> None:
    with pytest.raises(InvalidFieldError, match="the answer may take 1: together"):
        sampled(left=0, default=default)


@pytest.mark.parametrize(("key", "most"), [("temperature", 2), ("repetition_penalty", 10)])
def test_the_config_gives_nothing_that_a_request_may_not_have(key: str, most: float) -> None:
    allowed = RANGES[f"sampling.{key}"]
    assert (allowed.holds(most), allowed.holds(most + 0.5)) == (True, False)
    GenerationConfig(**{key: most})
