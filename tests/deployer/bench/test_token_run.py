"""The whole engine, from the command line, with random weights and without a file of a checkpoint."""

import contextlib
import io
import json
from dataclasses import replace

import pytest

from deployer.bench.token_run import loads_of
from deployer.cli import main
from deployer.config import load_config
from deployer.config.load import load_option
from deployer.errors import ConfigError
from deployer.serve.run import refuse_noise, run
from deployer.verbs import VERBS

BENCH = VERBS["bench"].groups[0]
SMALL = (
    "+model=internvl2_8b",
    "engine=pytorch",
    "engine.device_type=cpu",
    "engine.load_format=random",
    "engine.session_len=512",
    "engine.num_gpu_blocks=64",
    "engine.max_batch_size=4",
    "model.hyper_parameters.llm_config.vocab_size=500",
    "model.hyper_parameters.llm_config.hidden_size=32",
    "model.hyper_parameters.llm_config.intermediate_size=64",
    "model.hyper_parameters.llm_config.num_hidden_layers=2",
    "model.hyper_parameters.llm_config.num_attention_heads=4",
    "model.hyper_parameters.llm_config.num_key_value_heads=2",
    "model.hyper_parameters.vision_config.hidden_size=32",
    "model.hyper_parameters.vision_config.intermediate_size=64",
    "model.hyper_parameters.vision_config.num_hidden_layers=1",
    "model.hyper_parameters.vision_config.num_attention_heads=2",
)


@pytest.fixture(scope="module")
def report() -> object:
    out = io.StringIO()
    words = ["bench.prompt_tokens=20", "bench.output_tokens=6", "bench.concurrency=[1,3]", "output=json"]
    with contextlib.redirect_stdout(out):
        code = main(["bench", *SMALL, "bench=vision", *words, "bench.warmup=1", "hardware=cpu"])
    assert code == 0
    return json.loads(out.getvalue())


def test_every_request_gets_all_its_tokens_and_every_row_its_figures(report: dict) -> None:  # type: ignore[type-arg]
    rows = report["rows"]
    assert [(row["concurrency"], row["requests"]) for row in rows] == [(1, 1), (3, 3)]
    for row in rows:
        assert (row["prompt_tokens"], row["image_tokens"], row["output_tokens"]) == (276, 256, 6)
        assert row["cached_tokens"] == 0
        assert row["steps"] >= 6
        assert 0 < row["host_ms"] <= row["step_ms"]
        assert 0 <= row["gap_share"] < 1
        assert all(figure["limit"] > 0 for figure in row["figures"])
    # On a busy machine one of three short answers may end before the last one begins.
    decode = [] if rows[1]["decode_tokens_per_s"] is None else ["decode tok/s"]
    assert [figure["name"] for figure in rows[1]["figures"]] == ["prompt tok/s", *decode, "req/s"]


def test_the_report_says_that_weights_are_random_and_what_ran(report: dict) -> None:  # type: ignore[type-arg]
    about = report["about"]
    assert about["model"] == "internvl2_8b, weights random"
    assert about["engine"].startswith("pytorch on cpu")
    assert "64 pages of 64 tokens" in about["batch"]
    assert "weights" in about["start"]


@pytest.mark.parametrize("load", ["decode", "default"])
def test_answers_that_a_session_would_cut_are_refused(load: str, capsys: pytest.CaptureFixture[str]) -> None:
    pocket = ("+model=pocket_vl", "engine=pytorch", "engine.num_gpu_blocks=32", "engine.session_len=512")
    model = pocket if load == "default" else SMALL
    words = ("bench.concurrency=[1]", "bench.prompt_tokens=128", "bench.output_tokens=500")
    assert main(["bench", *model, f"bench={load}", *words]) == 3
    error = capsys.readouterr().err
    assert "bench.output_tokens=500 (" in error
    assert "a session has 512 tokens, prompt and answer together" in error


def test_more_at_once_than_the_engine_takes_is_refused_before_it_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", *SMALL, "bench=decode"]) == 3
    error = capsys.readouterr().err
    assert "engine.max_batch_size=4 lets no more run at once; set engine.max_batch_size=256" in error


def test_further_loads_are_those_that_ship_with_the_given_seed() -> None:
    first = replace(load_option(BENCH, "decode"), also=["prefill", "trace"], seed=7)
    assert [(load.name, load.seed) for load in loads_of(first)] == [
        ("decode", 7),
        ("prefill", 7),
        ("trace", 7),
    ]
    with pytest.raises(ConfigError, match="asks with texts"):
        loads_of(replace(first, also=["default"]))
    with pytest.raises(ConfigError, match="nosuch"):
        loads_of(replace(first, also=["nosuch"]))


def test_a_server_refuses_to_answer_with_noise_unless_it_is_told_to() -> None:
    with pytest.raises(ConfigError, match=r"answers would be noise.*server\.allow_random_weights=true"):
        run(load_config(SMALL))
    refuse_noise(load_config([*SMALL, "server.allow_random_weights=true"]))
    refuse_noise(load_config(["+model=internvl2_8b"]))
