"""Every field of GenerationConfig changes what a real engine answers, as it says."""

from typing import Any

import pytest

from deployer import GenerationConfig, Pipeline, Response

PROMPT = "Tell me more"


def ask(pipe: Pipeline, **fields: Any) -> Response:
    found = pipe(PROMPT, GenerationConfig(**fields))
    assert isinstance(found, Response)
    return found


@pytest.fixture(scope="module")
def eos(pipe: Pipeline) -> int:
    return pipe._async._open().prompts.eos_token_ids[0]


def test_n_answers_are_a_list(pipe: Pipeline) -> None:
    found = pipe([PROMPT, "Go on"], GenerationConfig(n=3, temperature=1.5, random_seed=1))
    assert isinstance(found, list)
    assert [(one.index, one.choice) for one in found] == [(i, k) for i in range(2) for k in range(3)]
    assert len({one.text for one in found[:3]}) == 3
    assert found[1].text == ask(pipe, temperature=1.5, random_seed=2).text  # choice i has seed + i


def test_lengths(pipe: Pipeline, eos: int) -> None:
    assert ask(pipe, max_new_tokens=5).generate_token_len == 5
    eager = {"logit_bias": {eos: 100.0}}
    assert ask(pipe, **eager).generate_token_len == 0
    assert ask(pipe, **eager).finish_reason == "stop"
    assert ask(pipe, **eager, min_new_tokens=4).generate_token_len == 4
    assert ask(pipe, **eager, ignore_eos=True).finish_reason == "length"


def test_temperature_and_seed(pipe: Pipeline) -> None:
    warm = {"temperature": 1.5, "top_k": 0, "top_p": 1.0}
    texts = [ask(pipe, **warm, random_seed=seed).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert ask(pipe, **warm).text != ask(pipe, **warm).text  # without a seed every call has a fresh one


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
def test_the_narrowest_choice_is_the_likeliest_token(pipe: Pipeline, narrow: dict[str, Any]) -> None:
    assert ask(pipe, temperature=1.5, random_seed=1).text != ask(pipe).text
    assert ask(pipe, temperature=1.5, random_seed=1, **narrow).text == ask(pipe).text


@pytest.mark.parametrize(
    "penalty", [{"repetition_penalty": 10.0}, {"presence_penalty": 2.0}, {"frequency_penalty": 2.0}]
)
def test_penalties_avoid_what_was_said(pipe: Pipeline, penalty: dict[str, Any]) -> None:
    near = {"logit_bias": {70: 3.0, 71: 2.5, 72: 2.0}, "max_new_tokens": 24, "ignore_eos": True}
    plain, held = ask(pipe, **near), ask(pipe, **near, **penalty)
    assert len(set(held.token_ids)) > len(set(plain.token_ids))


def test_stop_words_cut_the_text(pipe: Pipeline) -> None:
    text = ask(pipe).text
    word = text[5:8]
    found = ask(pipe, stop_words=[word])
    assert found.text == text[: text.index(word)]
    assert (found.finish_reason, found.stop_reason) == ("stop", word)
    kept = ask(pipe, stop_words=[word], include_stop_str_in_output=True)
    assert kept.text == text[: text.index(word)] + word


def test_stop_token_ids_end_the_answer(pipe: Pipeline) -> None:
    ids = ask(pipe).token_ids
    found = ask(pipe, stop_token_ids=[ids[3]])
    assert found.token_ids == ids[: ids.index(ids[3])]
    assert found.stop_reason == ids[3]


def test_bad_words_and_tokens_are_not_written(pipe: Pipeline) -> None:
    plain = ask(pipe)
    vocabulary = pipe._async._open().prompts.tokenizer
    token_id = next(token_id for token_id in plain.token_ids if vocabulary.token_bytes(token_id).isalnum())
    word = vocabulary.token_bytes(token_id).decode()
    assert token_id not in ask(pipe, bad_words=[word]).token_ids
    assert plain.token_ids[0] not in ask(pipe, bad_token_ids=[plain.token_ids[0]]).token_ids


def test_special_tokens_are_shown_where_asked_for(pipe: Pipeline) -> None:
    prompts = pipe._async._open().prompts
    ends = {*prompts.eos_token_ids, *prompts.stop_token_ids}
    special = min(token_id for token_id in prompts.tokenizer.special_ids if token_id not in ends)
    only = {"logit_bias": {special: 100.0}, "max_new_tokens": 2}
    assert ask(pipe, **only).text == ""
    shown = prompts.tokenizer.token_bytes(special).decode()
    assert ask(pipe, **only, skip_special_tokens=False).text == shown * 2


def test_logprobs_come_with_every_token(pipe: Pipeline) -> None:
    assert ask(pipe).logprobs is None
    found = ask(pipe, logprobs=3)
    assert found.logprobs is not None
    assert len(found.logprobs) == found.generate_token_len
    for token_id, about in zip(found.token_ids, found.logprobs, strict=True):
        assert about.top_ids[0] == token_id  # greedy
        assert about.chosen == about.top_logprobs[0] >= about.top_logprobs[2]


def test_prompt_logprobs_come_with_every_token_of_the_prompt_behind_its_first(pipe: Pipeline) -> None:
    assert ask(pipe).prompt_logprobs is None
    found = ask(pipe, prompt_logprobs=20)
    again = ask(pipe, prompt_logprobs=20)
    assert again.prompt_logprobs == found.prompt_logprobs, "nothing of it comes from the prefix cache"
    assert found.prompt_logprobs is not None
    assert len(found.prompt_logprobs) == len(found.prompt_token_ids) - 1 == found.input_token_len - 1
    num_named = 0
    for token_id, about in zip(found.prompt_token_ids[1:], found.prompt_logprobs, strict=True):
        named = dict(zip(about.top_ids, about.top_logprobs, strict=True))
        assert named.get(token_id, about.chosen) == about.chosen <= max(named.values())
        num_named += token_id in named
    assert num_named > 0
    pieces = list(pipe.stream_infer(PROMPT, GenerationConfig(prompt_logprobs=20)))
    streamed = tuple(one for piece in pieces for one in piece.prompt_logprobs or ())
    assert streamed == found.prompt_logprobs
    assert pieces[0].prompt_logprobs, "they come with the first piece"


def test_cached_tokens_are_told(pipe: Pipeline) -> None:
    long = "One two three four five six seven eight nine ten eleven twelve. " * 3
    for _ in range(2):
        found = pipe(long)
        assert isinstance(found, Response)
    assert found.cached_token_len >= 16
