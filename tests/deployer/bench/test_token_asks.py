"""Seeded requests on token ids."""

import random
from dataclasses import replace

import pytest
from prompt_setup import deploy_config
from tiny_engine import SPEC, TOKENS_PER_TILE

from deployer.bench.options import BenchOptions
from deployer.bench.token_asks import TokenPrompts, asked_lengths, lengths
from deployer.config.load import load_option
from deployer.verbs import VERBS

BENCH = VERBS["bench"].groups[0]


@pytest.fixture(scope="module")
def prompts() -> TokenPrompts:
    return TokenPrompts(SPEC, deploy_config().vision)


def options(name: str, **changes: object) -> BenchOptions:
    shipped: BenchOptions = load_option(BENCH, name)
    return replace(shipped, **changes)  # type: ignore[arg-type]


def test_the_same_seed_asks_the_same_and_no_two_requests_start_alike(prompts: TokenPrompts) -> None:
    how = options("decode", prompt_tokens=30)
    asked = prompts.asks(how, 20, stream="row 1")
    assert [one.token_ids for one in prompts.asks(how, 20, stream="row 1")] == [
        one.token_ids for one in asked
    ]
    other = prompts.asks(how, 20, stream="row 8")
    assert len({one.token_ids[:8] for one in [*asked, *other]}) == 40
    assert all(0 <= token < SPEC.decoder.vocab for one in asked for token in one.token_ids)


def test_a_picture_takes_its_rows_in_the_middle_of_the_text(prompts: TokenPrompts) -> None:
    how = options("vision", prompt_tokens=10, image_width=64, image_height=16)
    asked = prompts.asks(how, 3, stream="row 1")
    keys = set()
    for one in asked:
        assert one.picture is not None
        assert one.picture.num_tokens == TOKENS_PER_TILE * one.picture.plan.num_tiles
        assert one.picture.plan.num_tiles == 5, "four tiles and a thumbnail"
        assert len(one.token_ids) == 10 + one.picture.num_tokens
        prepared = prompts.prepare(one.picture)
        assert (prepared.start, prepared.num_tokens) == (5, one.picture.num_tokens)
        assert len(prepared.arrays[0]) == 5
        keys.add(prepared.key)
    assert len(keys) == 3, "no picture is answered from a cache"


@pytest.mark.parametrize("mean", [5, 227])
def test_log_normal_lengths_have_their_mean_and_spread(mean: int) -> None:
    found = lengths(mean, 1000, sigma=0.8, chance=random.Random(1))
    assert sum(found) == pytest.approx(mean * 1000, rel=0.01)
    assert min(found) >= 1
    assert sorted(found)[500] == pytest.approx(mean * 0.726, rel=0.15), "exp(-sigma^2 / 2) of the mean"
    assert max(found) > 4 * mean


def test_lengths_without_a_spread_are_all_alike() -> None:
    assert lengths(7, 3, sigma=0, chance=random.Random(1)) == [7, 7, 7]


def test_the_shipped_loads_are_those_of_the_published_table() -> None:
    assert options("decode").concurrency == [1, 8, 32, 64, 128, 256]
    assert (options("prefill").concurrency, options("prefill").prompt_tokens) == ([16], 2048)
    assert (options("trace").requests, options("trace").concurrency) == (1000, [256])
    assert (options("vision_tiles").image_width, options("vision_tiles").image_height) == (1792, 1344)


def test_the_lengths_of_a_row_are_known_without_its_prompts(prompts: TokenPrompts) -> None:
    how = options("trace", prompt_tokens=20, output_tokens=30)
    asked = [(len(one.token_ids), one.output_tokens) for one in prompts.asks(how, 25, stream="row 8")]
    assert asked == asked_lengths(how, 25, stream="row 8")
