"""What a GenerationConfig takes."""

from typing import Any

import pytest

from deployer import GenerationConfig
from engines.errors import RequestError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0), ("n", None), ("n", True), ("n", 129), ("max_new_tokens", 0), ("max_new_tokens", 1.0),
        ("min_new_tokens", -1), ("temperature", -0.1), ("temperature", float("nan")), ("temperature", "1"),
        ("top_p", 0), ("top_p", 1.1), ("top_k", -1), ("min_p", 2), ("repetition_penalty", 0),
        ("presence_penalty", 3), ("frequency_penalty", -3), ("random_seed", 2**63), ("ignore_eos", 1),
        ("stop_words", "stop"), ("stop_words", [""]), ("bad_words", [3]), ("bad_words", ["\udcff"]),
        ("stop_token_ids", [-1]), ("bad_token_ids", ["a"]), ("logit_bias", {"a": 1}),
        ("logit_bias", {1: 101}), ("logprobs", 21),
        ("skip_special_tokens", None), ("include_stop_str_in_output", "no"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=f"^{field}=.*: must "):
        GenerationConfig(**{field: value})


def test_all_faults_come_at_once() -> None:
    with pytest.raises(RequestError, match=r"^n=0: must be .*; top_p=2: must be "):
        GenerationConfig(top_p=2, n=0)


def test_the_ends_of_the_ranges_are_inside() -> None:
    GenerationConfig(
        n=128, temperature=2, top_p=1, min_p=0, repetition_penalty=10, random_seed=-(2**63), logprobs=0
    )
