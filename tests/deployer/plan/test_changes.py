"""What-if questions are asked of the config tree itself, so these tests start from it."""

from functools import cache

import pytest

from deployer.config.load import load_for_verb
from deployer.plan.changes import (
    Question,
    changed,
    fits,
    largest_changes,
    nearest_fits,
    runs_today,
    single_changes,
)
from deployer.plan.figures import Figures, figures_of
from deployer.verbs import VERBS
from engines.families import read_spec


@cache
def question(*words: str) -> Question:
    """Return what `deploy plan` with these words would compute."""
    config, options, hardware = load_for_verb(VERBS["plan"], words)
    spec = read_spec(config.model.hyper_parameters, origin="a test")
    return Question(config=config, spec=spec, hardware=hardware, options=options)


def figures(asked: Question) -> Figures:
    """Return its figures."""
    return figures_of(asked.case(), asked.options)


def test_keys_are_replaced_without_touching_the_rest() -> None:
    config = question("+model=internvl2_8b").config
    other = changed(config, {"engine.tp": 2, "engine.session_len": 4096, "quantization.kv": "fp8"})
    assert (other.engine.tp, other.engine.session_len, other.quantization.kv) == (2, 4096, "fp8")
    assert other.engine.max_batch_size == config.engine.max_batch_size
    assert (config.engine.tp, config.quantization.kv) == (1, "none")


def test_a_change_says_what_the_same_words_would_say() -> None:
    asked = question("+model=internvl2_8b")
    rows = {change.words: change for change in largest_changes(asked, figures(asked))}
    typed = figures(question("+model=internvl2_8b", "engine.tp=2"))
    assert rows["engine.tp=2"].kv_tokens == typed.memory.kv_tokens
    assert rows["engine.tp=2"].first_token_ms == typed.at_limit.first_token_ms


def test_changes_come_by_effect_and_without_those_that_do_nothing() -> None:
    asked = question("+model=internvl2_8b")
    words = [change.words for change in largest_changes(asked, figures(asked))]
    assert words[0] == "quantization.kv=int4"  # 3.76 times the tokens; four-bit weights are 3.1 times faster
    assert words[1] == "quantization.weights=awq"
    assert "engine.max_prefill_token_num=2048" not in words


def test_a_second_copy_is_asked_about_by_the_share_that_it_needs() -> None:
    asked = question("+model=internvl2_8b", "engine=turbomind", "hardware=h200", "engine.decode_weights=0")
    assert {"engine.decode_weights": 0.08} in [dict(keys) for keys in single_changes(asked)]
    asked = question("+model=internvl2_8b", "engine=turbomind", "hardware=h200", "engine.decode_weights=0.15")
    assert {"engine.decode_weights": 0.0} in [dict(keys) for keys in single_changes(asked)]
    for words in (["engine=pytorch", "hardware=h200"], ["engine=turbomind", "hardware=a100"]):
        asked = question("+model=internvl2_8b", *words)
        assert not [keys for keys in single_changes(asked) if "engine.decode_weights" in keys]


def test_a_gpu_without_fp8_is_asked_about_int8() -> None:
    words = [dict(keys) for keys in single_changes(question("+model=internvl2_8b", "hardware=a100"))]
    assert {"quantization.kv": "int8"} in words
    assert {"quantization.weights": "fp8"} not in words


def test_a_cpu_is_not_asked_about_more_ranks() -> None:
    keys = [key for keys in single_changes(question("+model=internvl2_1b", "hardware=cpu")) for key in keys]
    assert "engine.tp" not in keys


def test_ranks_that_cannot_share_the_model_are_left_out() -> None:
    asked = question("+model=internvl2_1b", "engine.tp=2")
    words = [change.words for change in largest_changes(asked, figures(asked))]
    assert "engine.tp=4" not in words


def test_values_that_the_tree_refuses_are_marked() -> None:
    config = question("+model=internvl2_8b").config
    assert runs_today(config)
    assert runs_today(changed(config, {"engine.tp": 2}))
    assert runs_today(changed(config, {"quantization.weights": "awq"}))
    assert runs_today(changed(config, {"quantization.kv": "int8", "engine.kind": "turbomind"}))
    assert not runs_today(changed(config, {"engine.tp": 3}))


def test_what_does_not_fit_gets_the_nearest_changes_that_do() -> None:
    asked = question("+model=internvl2_76b")
    assert not fits(figures(asked))
    ways = nearest_fits(asked)
    assert [change.words for change in ways][:2] == ["engine.tp=2", "quantization.weights=bf12"]
    again = figures(question("+model=internvl2_76b", "engine.tp=2"))
    assert fits(again)
    assert ways[0].kv_tokens == again.memory.kv_tokens


def test_settings_come_before_more_gpus() -> None:
    # 17.0 GB of weights and runtime leave too little for steps of 8,192 tokens and 128 sequences.
    asked = question("+model=internvl2_8b", "hardware=rtx4090", "hardware.memory_bytes=18700000000")
    assert not fits(figures(asked))
    words = nearest_fits(asked)[0].words
    assert words.startswith("engine.max_prefill_token_num=")
    assert fits(figures(question(*_words(asked), *words.split())))


@pytest.mark.parametrize("fitting", [True, False])
def test_a_request_longer_than_a_session_does_not_fit(fitting: bool) -> None:
    length = 3072 if fitting else 3071
    asked = question("+model=internvl2_8b", f"engine.session_len={length}")
    assert figures(asked).workload.total_tokens == 3072
    assert fits(figures(asked)) is fitting


def _words(asked: Question) -> list[str]:
    return [
        f"+model={asked.config.model.name}",
        f"hardware={asked.hardware.name}",
        f"hardware.memory_bytes={asked.hardware.memory_bytes}",
    ]
