"""Figures from samples."""

import asyncio

import pytest

from deployer.bench.samples import Sample, closed_loop, figures, quantile


def sample(*, start_s: float = 0.0, ttft_s: float = 0.1, token_s: float = 0.01, tokens: int = 11) -> Sample:
    first_s = start_s + ttft_s
    return Sample(
        start_s=start_s, first_s=first_s, last_s=first_s + token_s * (tokens - 1), prompt_tokens=20,
        image_tokens=5, cached_tokens=4, output_tokens=tokens,
    )  # fmt: skip


def test_a_row_is_made_of_medians_and_totals() -> None:
    samples = [sample(ttft_s=t) for t in (0.1, 0.2, 0.9)]
    row = figures(samples, 2.0, path="http", image=True, concurrency=3)
    assert row.ttft_p50_ms == pytest.approx(200)
    assert row.ttft_p99_ms == pytest.approx(886)
    assert row.token_p50_ms == pytest.approx(10)
    assert row.request_ms == pytest.approx(500)
    assert row.output_tokens_per_s == pytest.approx(33 / 2)
    assert row.requests_per_s == pytest.approx(1.5)
    assert (row.prompt_tokens, row.image_tokens, row.cached_tokens, row.output_tokens) == (20, 5, 4, 11)


def test_one_token_has_no_time_between_tokens() -> None:
    assert sample(tokens=1).token_s == 0


def test_quantiles_lie_between_neighbours() -> None:
    assert quantile([7.0], 0.99) == 7.0
    assert [quantile([0.0, 10.0, 20.0], share) for share in (0, 0.25, 0.5, 1)] == [0, 5, 10, 20]


@pytest.mark.parametrize("concurrency", [1, 3, 50])
async def test_never_more_than_the_concurrency_run_at_once_and_all_are_asked(concurrency: int) -> None:
    running = most = 0
    seen: list[int] = []

    async def ask(number: int) -> Sample:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        seen.append(number)
        return sample()

    samples, seconds = await closed_loop(range(20), concurrency, ask)
    assert sorted(seen) == list(range(20))
    assert len(samples) == 20
    assert most == min(concurrency, 20)
    assert seconds > 0
