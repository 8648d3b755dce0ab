"""Text models against upstream's logits and greedy tokens: whole, in chunks, after a preemption."""

import json
from dataclasses import replace
from typing import Any

import pytest
from family_golden import FIXTURES, FamilyGolden, Session, check

from engines.errors import CheckpointError
from engines.families import read_spec
from engines.spec import DecoderSpec

CASES = ("llama31_rope", "mistral_v01_window")


def golden(case: str) -> FamilyGolden:
    return FamilyGolden(FIXTURES / "text" / case)


def decoder(**values: Any) -> DecoderSpec:
    return read_spec(values, origin="config.json").decoder


@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_tokens_are_the_references(case: str) -> None:
    reference = golden(case)
    session = Session(reference.network(), max_sequences=6)
    for tag in ("text", "text2"):
        for chunk in (1000, 7, 1):
            check(reference, session, tag, chunk=chunk)


def test_without_its_window_mistral_gives_other_logits() -> None:
    reference = golden("mistral_v01_window")
    assert reference.spec.decoder.sliding_window == 12
    object.__setattr__(
        reference,
        "spec",
        replace(reference.spec, decoder=replace(reference.spec.decoder, sliding_window=None)),
    )
    with pytest.raises(AssertionError):
        check(reference, Session(reference.network()), "text", chunk=1000)


@pytest.mark.parametrize(
    ("given", "window"), [({}, 4096), ({"sliding_window": None}, None), ({"sliding_window": 9}, 9)]
)
def test_a_mistral_config_without_the_key_has_a_window_and_null_has_none(
    given: dict[str, Any], window: int | None
) -> None:
    assert decoder(architectures=["MistralForCausalLM"], **given).sliding_window == window


def test_mistral_shares_keys_where_the_config_says_nothing_and_llama_does_not() -> None:
    assert decoder(architectures=["MistralForCausalLM"]).num_kv_heads == 8
    assert decoder(architectures=["LlamaForCausalLM"]).num_kv_heads == 32


def test_a_class_that_is_no_language_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"must name a known decoder: .*MistralForCausalLM"):
        read_spec({"architectures": ["LlamaForTokenClassification"], "model_type": "llama"}, origin="m")


def test_a_text_model_has_no_vision_and_its_fixture_no_prefix() -> None:
    reference = golden("llama31_rope")
    assert reference.spec.vision is None and reference.spec.family == "text"
    assert json.loads((reference.folder / "config.json").read_text())["tie_word_embeddings"]
