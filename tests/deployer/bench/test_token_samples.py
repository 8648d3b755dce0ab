"""Rows from samples on token ids, their limits and the table."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from deployer.bench.token_asks import asked_lengths, row_stream
from deployer.bench.token_limits import Limits, is_that_device
from deployer.bench.token_report import figures_of, print_token_report
from deployer.bench.token_samples import Spent, TokenSample, decode_rate, token_row
from deployer.config import load_config
from deployer.config.load import load_option
from deployer.plan.hardware import Hardware
from deployer.verb import OptionGroup
from deployer.verbs import VERBS
from engines.families import read_spec
from engines.messages import Ready
from engines.stats import Stats

TOKENS = load_option(VERBS["bench"].groups[0], "decode")
READY = Ready(
    device="cpu", dtype="float32", session_len=64, page_tokens=16, num_pages=4, page_bytes=8,
    bytes_by_part={"weights": 5}, phase_s={"load": 0.1},
)  # fmt: skip


def sample(
    *, first_s: float = 1.0, step_s: float = 0.1, tokens: int = 11, start_s: float = 0.0
) -> TokenSample:
    arrivals = tuple((first_s + i * step_s, 1) for i in range(tokens))
    return TokenSample(start_s=start_s, arrivals=arrivals, prompt_tokens=100, image_tokens=0, cached_tokens=0)


def stats(**figures: Any) -> Stats:
    zero = dict.fromkeys(Stats.__struct_fields__, 0)
    return Stats(**{**zero, **figures})


def row(samples: list[TokenSample], *, concurrency: int, seconds: float = 4.0) -> Any:
    return token_row(
        samples,
        seconds,
        load="decode",
        concurrency=concurrency,
        path="engine",
        before=Spent.of(
            stats(steps=10, step_s=1.0, wait_s=0.5, gap_s=0.25, proposed_tokens=5, accepted_tokens=5)
        ),
        after=Spent.of(
            stats(steps=30, step_s=3.0, wait_s=2.0, gap_s=0.45, proposed_tokens=1205, accepted_tokens=305)
        ),
        client_cores=None,
    )


def hardware(name: str) -> Hardware:
    group = OptionGroup(name="hardware", option="h200", kind="deployer.plan.hardware:Hardware")
    found: Hardware = load_option(group, name)
    return found


def limits() -> Limits:
    config = load_config(["+model=internvl2_8b", "engine=turbomind"])
    spec = read_spec(config.model.hyper_parameters or {}, origin="internvl2_8b")
    return Limits.of(config, spec, hardware("h200"))


def test_only_the_time_in_which_everybody_decodes_counts() -> None:
    # the second begins at 2.0, the first ends at 2.5: five tokens of each in between
    late = [sample(first_s=1.0, tokens=16), sample(first_s=2.0, tokens=16)]
    assert decode_rate(late, concurrency=2) == pytest.approx(10 / 0.5)
    assert decode_rate([sample(), sample(first_s=9.0)], concurrency=2) is None, "they never decode together"
    assert decode_rate([sample(), sample()], concurrency=1) is None, "they took turns"
    assert decode_rate([sample(tokens=1)], concurrency=1) is None


def test_tokens_that_came_together_count_one_by_one() -> None:
    merged = replace(sample(), arrivals=((1.0, 1), (1.3, 3), (2.0, 7)))
    assert decode_rate([merged], concurrency=1) == pytest.approx(10)


def test_tokens_of_a_step_that_come_one_after_another_are_all_of_that_step() -> None:
    apart_s, step_s = 2e-5, 0.016  # of 256 sequences, each of which wakes up in turn
    turns = [sample(first_s=1.0 + i * apart_s, step_s=step_s, tokens=100) for i in range(256)]
    assert decode_rate(turns, concurrency=256) == pytest.approx(256 / step_s, rel=1e-6)


def test_a_row_has_the_engines_own_figures_between_two_looks() -> None:
    found = row([sample(), sample(first_s=2.0)], concurrency=2)
    assert (found.steps, found.step_ms, found.host_ms) == (20, 100.0, pytest.approx(25.0))
    assert found.gap_share == pytest.approx(0.05)
    assert (found.proposed_tokens, found.accepted_tokens) == (1200, 300)
    assert found.ttft_p50_ms == pytest.approx(1500)
    assert 0 < found.token_p50_ms <= found.token_p99_ms
    assert found.prompt_tokens_per_s == pytest.approx(100)
    assert found.requests_per_s == pytest.approx(0.5)


def test_figures_stand_beside_the_planners_limits_at_1024_tokens_of_context() -> None:
    one = replace(row([sample(tokens=128)], concurrency=1), prompt_tokens=960.0, output_tokens=128.0)
    many = replace(one, concurrency=256, requests=256, decode_tokens_per_s=10_000.0)
    by_name = {figure.name: figure for figure in figures_of(one, TOKENS, limits())}
    assert set(by_name) == {"ttft ms", "prompt tok/s", "decode tok/s"}
    assert by_name["decode tok/s"].limit == pytest.approx(385, rel=0.01)
    full = {figure.name: figure for figure in figures_of(many, TOKENS, limits())}
    assert set(full) == {"prompt tok/s", "decode tok/s", "req/s"}
    assert full["decode tok/s"].limit == pytest.approx(20_063, rel=0.02)
    assert full["decode tok/s"].of_limit == pytest.approx(10_000 / 20_063, rel=0.02)


def test_the_limit_of_a_picture_is_its_tiles_and_its_prompt() -> None:
    tiled = replace(row([sample()], concurrency=1), prompt_tokens=3380.0)
    how = replace(TOKENS, images="with", image_width=1792, image_height=1344)
    ttft = next(figure for figure in figures_of(tiled, how, limits()) if figure.name == "ttft ms")
    assert ttft.limit == pytest.approx(75, rel=0.05)


def test_another_device_has_no_limit() -> None:
    assert is_that_device(hardware("h200"), "cuda:0 (NVIDIA H200)")
    assert is_that_device(hardware("rtx4090"), "cuda:0 (NVIDIA GeForce RTX 4090)")
    assert not is_that_device(hardware("h100"), "cuda:0 (NVIDIA H200)")
    assert not is_that_device(hardware("h200"), "cpu (2 threads)")
    assert is_that_device(hardware("cpu"), "cpu (2 threads)")
    found = list(figures_of(row([sample()], concurrency=1), TOKENS, None))
    assert [(figure.limit, figure.of_limit) for figure in found] == [(None, None)] * len(found)


def test_the_table_has_a_line_a_figure_and_json_the_whole_row() -> None:
    out = io.StringIO()
    rows = [(TOKENS, row([sample()], concurrency=1))]
    print_token_report(rows, {"model": "m"}, None, TOKENS, deployment={}, ready=READY, out=out)
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines[3:]] == ["decode", "decode", "decode"]
    assert "ttft ms" in lines[3] and "25% of 1,200" in lines[3]
    out = io.StringIO()
    print_token_report(
        rows, {"model": "m"}, None, replace(TOKENS, output="json"), deployment={}, ready=READY, out=out
    )
    report = json.loads(out.getvalue())
    assert report["rows"][0]["steps"] == 20
    assert report["engine"]["bytes_by_part"] == {"weights": 5}
    assert [figure["name"] for figure in report["rows"][0]["figures"]] == [
        "ttft ms",
        "prompt tok/s",
        "decode tok/s",
    ]
    assert report["bench"][0]["name"] == "decode"


def test_the_limit_of_a_burst_counts_the_small_batches_at_its_end() -> None:
    known = limits()
    alike = known.burst_s([(1024, 128)] * 8, in_flight=8)
    one = replace(row([sample()], concurrency=8), prompt_tokens=1024.0, output_tokens=128.0)
    assert 8 / alike == pytest.approx(known.requests_per_s(one, None), rel=0.05)
    tail = known.burst_s([(1024, 64)] * 7 + [(1024, 576)], in_flight=8)
    assert tail > 1.5 * alike, "as many tokens, most of them alone"


def test_a_trace_is_held_to_the_lengths_that_it_asked_for() -> None:
    trace = replace(load_option(VERBS["bench"].groups[0], "trace"), requests=40)
    measured = replace(row([sample()], concurrency=8), requests=40, prompt_tokens=227.0, output_tokens=202.0)
    found = {figure.name: figure for figure in figures_of(measured, trace, limits())}
    asked = asked_lengths(trace, 40, stream=row_stream(8))
    assert found["req/s"].limit == pytest.approx(40 / limits().burst_s(asked, in_flight=8))
