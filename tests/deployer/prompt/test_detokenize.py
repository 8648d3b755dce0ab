"""Streams cut at random against the whole decode."""

import random

import pytest
from prompt_setup import TOKENIZERS

from deployer.prompt.detokenize import TextStream
from deployer.prompt.tokenizer import Tokenizer, decode, load_tokenizer

LAYOUTS = ["byte_level", "internlm2", "llama", "qwen2"]
TEXT = "Hello,  world! 日本語🙂🚀 naïve\n\n中文测试 <|im_end|> ###END of it"


@pytest.fixture(params=LAYOUTS, scope="module")
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(TOKENIZERS / request.param)


def cut(ids: list[int], rng: random.Random) -> list[list[int]]:
    """Return the ids in pieces of random lengths, empty ones too."""
    ends = sorted(rng.choices(range(len(ids) + 1), k=rng.randint(0, 12)))
    return [ids[start:end] for start, end in zip([0, *ends], [*ends, len(ids)], strict=True)]


def streamed(stream: TextStream, pieces: list[list[int]]) -> tuple[list[str], str | None]:
    """Return the deltas and what stopped the stream."""
    deltas = [stream.feed(piece) for piece in pieces]
    deltas.append(stream.finish())
    return [delta.text for delta in deltas], deltas[-1].stopped_by


@pytest.mark.parametrize("seed", range(30))
def test_any_cut_gives_the_whole_text(tokenizer: Tokenizer, seed: int) -> None:
    rng = random.Random(seed)
    ids = tokenizer.encode(TEXT, special=True)
    for skip in (True, False):
        texts, _ = streamed(TextStream(tokenizer, skip_special_tokens=skip), cut(ids, rng))
        assert "".join(texts) == decode(tokenizer, ids, skip_special_tokens=skip)


@pytest.mark.parametrize("seed", range(30))
def test_any_ids_give_the_whole_text(tokenizer: Tokenizer, seed: int) -> None:
    rng = random.Random(seed)
    ids = rng.choices(range(tokenizer.vocab_size + 5), k=60)
    texts, _ = streamed(TextStream(tokenizer), cut(ids, rng))
    assert "".join(texts) == decode(tokenizer, ids)


def test_no_delta_holds_half_a_character(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🙂日é" * 3, special=False)
    stream = TextStream(tokenizer)
    texts = [stream.feed([token_id]).text for token_id in ids]
    assert "".join(texts) == "🙂日é" * 3
    assert "\ufffd" not in "".join(texts)
    assert "" in texts  # some characters take several tokens


def test_an_incomplete_last_character_is_left_out(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a🙂", special=False)[:-1]
    texts, _ = streamed(TextStream(tokenizer), [ids])
    assert "".join(texts) == decode(tokenizer, ids) == "a"


@pytest.mark.parametrize("seed", range(40))
def test_the_same_stop_string_ends_the_text_wherever_it_was_cut(tokenizer: Tokenizer, seed: int) -> None:
    rng = random.Random(seed)
    whole = "".join(rng.choices("abc é", k=60))
    stop = ["".join(rng.choices("abc é", k=rng.randint(1, 5))) for _ in range(rng.randint(1, 4))]
    ids = tokenizer.encode(whole, special=False)
    text = decode(tokenizer, ids)
    found = [(text.find(word) + len(word), text.find(word), word) for word in stop if word in text]
    end, start, word = min(found, default=(len(text), len(text), None))
    for include_stop in (False, True):
        stream = TextStream(tokenizer, stop=stop, include_stop=include_stop)
        texts, stopped_by = streamed(stream, cut(ids, rng))
        assert "".join(texts) == text[: end if include_stop else start]
        assert stopped_by == word


def test_only_what_may_become_a_stop_string_is_held_back(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer, stop=["END OF IT"])
    ids = tokenizer.encode("x EN", special=False)
    assert "".join(stream.feed([token_id]).text for token_id in ids) == "x "
    rest = tokenizer.encode("TER", special=False)
    shown = "".join(stream.feed([token_id]).text for token_id in rest) + stream.finish().text
    assert shown.replace(" ", "") == "ENTER"


def test_a_long_stop_string_over_many_tokens_is_found(tokenizer: Tokenizer) -> None:
    stop = "a stop string of quite some length, 中文 too"
    stream = TextStream(tokenizer, stop=[stop])
    ids = tokenizer.encode(f"before {stop} after", special=False)
    texts, stopped_by = streamed(stream, [[token_id] for token_id in ids])
    assert "".join(texts) == "before "
    assert stopped_by == stop


def test_after_the_stop_nothing_more_comes(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer, stop=["."])
    first = stream.feed(tokenizer.encode("a. b", special=False))
    assert (first.text, first.stopped_by) == ("a", ".")
    again = stream.feed(tokenizer.encode("c", special=False))
    assert (again.text, again.stopped_by) == ("", ".")
    assert stream.finish().text == ""
