import itertools

import pytest
from prompt_setup import TOKENIZERS

from deployer.prompt.bad_words import bad_sequences
from deployer.prompt.tokenizer import Tokenizer, load_tokenizer


@pytest.fixture(params=["byte_level", "internlm2", "llama", "qwen2"], scope="module")
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(TOKENIZERS / request.param)


def write(tokenizer: Tokenizer, sequence: tuple[int, ...]) -> bytes:
    return b"".join(tokenizer.token_bytes(token_id) for token_id in sequence)


def test_every_sequence_writes_the_word_with_or_without_a_space(tokenizer: Tokenizer) -> None:
    sequences = bad_sequences(tokenizer, ["circle"])
    assert {write(tokenizer, sequence) for sequence in sequences} == {b"circle", b" circle"}
    assert len(set(sequences)) == len(sequences)


def test_the_usual_way_of_writing_the_word_is_among_them(tokenizer: Tokenizer) -> None:
    sequences = bad_sequences(tokenizer, ["circle"])
    whole = tokenizer.encode("The circle", special=False)
    assert any(tuple(whole[-count:]) in sequences for count in range(1, len(whole)))


def test_all_ways_of_a_short_word_are_found(tokenizer: Tokenizer) -> None:
    ordinary = {
        token_id: data
        for token_id in range(tokenizer.vocab_size)
        if token_id not in tokenizer.special_ids
        and (data := tokenizer.token_bytes(token_id))
        and data in b" red"
    }
    expected = {
        sequence
        for count in range(1, 5)
        for sequence in itertools.product(ordinary, repeat=count)
        if b"".join(ordinary[token_id] for token_id in sequence) in (b"red", b" red")
    }
    assert set(bad_sequences(tokenizer, ["red"])) == expected


def test_a_space_in_front_asks_for_that_form_only(tokenizer: Tokenizer) -> None:
    assert {write(tokenizer, sequence) for sequence in bad_sequences(tokenizer, [" red"])} == {b" red"}


def test_a_long_word_is_cut_off_at_the_likeliest_ways(tokenizer: Tokenizer) -> None:
    sequences = bad_sequences(tokenizer, ["How many squares are there in the picture"])
    assert 2 <= len(sequences) <= 128
    lengths = [len(sequence) for sequence in sequences if write(tokenizer, sequence).startswith(b"H")]
    assert lengths == sorted(lengths)


def test_control_tokens_unwritable_and_empty_words(tokenizer: Tokenizer) -> None:
    assert (tokenizer.token_to_id("<img>"),) in bad_sequences(tokenizer, ["<img>"])
    assert bad_sequences(tokenizer, ["", " "]) == ()
    assert {write(tokenizer, sequence) for sequence in bad_sequences(tokenizer, ["🙂"])} >= {"🙂".encode()}
