from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from deployer.config import DeployConfig, load_config
from deployer.config.arms import arms_of
from deployer.config.build import UNBUILT
from deployer.config.checks import broken_rules
from deployer.config.origins import Origins
from deployer.config.ranges import RANGES

Faults = Callable[..., tuple[str, ...]]
MODEL = "+model=internvl2_8b"
GOLD = "{name: gold, priority: 0, share: 0.5, max_requests: null}"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["engine.tp=3"], "must divide the 8 KV heads of `internvl2_8b`; use 1, 2, 4 or 8"),
        (["engine.tp=16"], "must divide the 8 KV heads"),
        (["engine.cache_block_seq_len=48"], "must be a power of two from 16 on"),
        (["engine.cache_block_seq_len=8"], "must be a power of two from 16 on"),
        (["engine.cache_max_entry_count=1.0"], "must be a share above 0 and below 1, or bytes"),
        (["engine.cache_max_entry_count=0"], "must be a share above 0 and below 1, or bytes"),
        (["engine.session_len=65537"], "was made for 65536 tokens"),
        (["engine.session_len=100", "sampling.max_new_tokens=100"], "must be below engine.session_len=100"),
        (["engine=turbomind", "engine.device_type=cpu"], "engine=turbomind runs on CUDA only"),
        (
            ["engine=pytorch", "engine.decode_weights=0.1"],
            "engine=pytorch reads no second copy of the weights",
        ),
        (["vision.quant_policy=8"], "is now quantization.kv; write quantization.kv=int8"),
        (["engine.quant_policy=8", "quantization.kv=fp8"], "`quantization.kv` (command line"),
        (["engine.quant_policy=42"], "is now quantization.kv: none for 0, int4 for 4, int8 for 8"),
        (["engine.model_format=gguf"], "is now quantization.weights: none for hf, awq for awq"),
        (["quantization.weights=smooth_quant"], "nearest: `int8`"),
        (["quantization.kv=8"], "nearest: `int8`"),
        (["engine.block_size=64"], "is now engine.cache_block_seq_len"),
        (["engine.revision=main"], "is now model.revision"),
        (["engine.eviction_type=recompute"], "there is one way, recompute"),
        (["engine.prefill_interval=16"], "engine.num_tokens_per_iter bounds how much of them"),
        (["engine.num_cpu_blocks=0"], "pages lie on the engine's device alone"),
        (["engine.thread_safe=false"], "every client of the engine is safe; leave it out"),
        (["vision.thread_safe=true"], "every client of the engine is safe; leave it out"),
        (["chat_template.model_name=vicuna"], "is now the name of an option: chat_template=<name>"),
        (
            ["model.hyper_parameters.llm_config.num_attention_heads=51", "quantization.kv=int4"],
            "needs heads of a multiple of 32 numbers, this model's have 80; use none, fp8 or int8",
        ),
        (
            ["engine.dtype=float16", "quantization.kv=bf12"],
            "keeps numbers of bfloat16, float16 has three more bits of mantissa; use none, fp8, int8 or int4",
        ),
        (["vision.min_tiles=6", "vision.max_tiles=4"], "must not be above vision.max_tiles=4"),
        (["vision.video_frames=8", "vision.video_fps=2"], "vision.video_frames=8 says it too; set one to"),
        (["vision.video_frames=40"], "must not be above vision.max_video_frames=32"),
        (["server.ssl_certfile=/dev/null/x"], "set server.ssl_keyfile=<file>"),
        (["chat_template.file=gone.jinja"], "there is no such file"),
        (["vision.file_root=gone"], "there is no such folder"),
        (["vision.uncut_pixels=1000000000"], "must be at least 0 and at most 268435456"),
        (["model.revision="], "must not be empty"),
        (["server.host="], "must not be empty"),
        (["server.api_keys=[a,'']"], "must hold no empty key"),
        (["chat_template.stop_words=['']"], "must hold no empty text"),
        (["server.cors_origins=[localhost]"], "must read scheme://host"),
        (["server.cors_origins=['http://[::1']"], "must read scheme://host"),
        (["server.otel_endpoint='http://[::1'"], "must be a URL"),
        (["model.repo=null"], "set model.repo=<owner>/<name>"),
        (["model.repo=InternVL2-8B"], "must read owner/name"),
        (
            ["model.path=/tmp"],
            "model.hub=huggingface fetches model.repo; for the folder set model.hub=folder",
        ),
        (["model.hub=folder"], "set model.path=<folder>"),
        (["server.grpc_port=23333"], "server.port has it for HTTP, and each needs a port of its own"),
        (["server.port=9", "server.grpc_port=9"], "use another port, 0 for any free one or null for none"),
        (["server.grpc_port=9", "server.gradio_port=9"], "server.grpc_port has it, and each needs"),
        (["server.port=65536"], "must be at least 0 and at most 65535"),
        (["sampling.top_p=0"], "must be above 0 and at most 1"),
        (["sampling.temperature=-1"], "must be at least 0"),
        (["engine.rope_scaling_factor=0.5"], "must be at least 1"),
        (["engine.speculative_grammar_tokens=64"], "must be at least 0 and at most 63"),
        (
            ["engine.speculative_num_draft_tokens=4", "engine.max_batch_size=4"],
            "a step has engine.max_batch_size=4 rows, one of them the sequence's last token; use at most 3",
        ),
    ],
)
def test_an_impossible_tree_is_refused_with_the_rule(
    faults_of: Faults, words: list[str], expected: str
) -> None:
    assert any(expected in fault for fault in faults_of(MODEL, *words))


def test_a_broken_rule_names_the_value_and_where_it_was_set(faults_of: Faults) -> None:
    (fault,) = faults_of(MODEL, "engine.tp=3")
    assert fault.startswith("engine.tp=3 (command line `engine.tp=3`): must divide")


def test_broken_rules_are_reported_together(faults_of: Faults) -> None:
    assert (
        len(faults_of(MODEL, "engine.tp=3", "server.port=-1", "vision.min_tiles=3", "vision.max_tiles=2"))
        == 3
    )


def has_number(hint: Any) -> bool:
    return bool({int, float} & {hint, *get_args(hint)})


def numbers_of_the_schema() -> dict[str, type[Any]]:
    """Return every key that holds a number, with the dataclass that has it."""
    arms = [(group, arm) for group, hint in get_type_hints(DeployConfig).items() for arm in arms_of(hint)]
    return {
        f"{group}.{name}": arm
        for group, arm in arms
        for name, hint in get_type_hints(arm).items()
        if has_number(hint)
    }


@pytest.mark.parametrize("key", sorted(RANGES))
def test_every_number_has_a_lower_end(faults_of: Faults, key: str) -> None:
    kind, *_ = get_args(get_type_hints(numbers_of_the_schema()[key]).get("kind")) or [""]
    words = [f"target={kind}"] if key.startswith("target.") else []
    (fault, *_) = faults_of(MODEL, *words, f"{key}=-1")
    assert fault.startswith(f"{key}=-1")


def test_every_number_of_the_schema_has_a_range() -> None:
    ruled_in_checks = {"engine.cache_block_seq_len", "engine.cache_max_entry_count"}
    assert numbers_of_the_schema().keys() - ruled_in_checks == set(RANGES)


@pytest.mark.parametrize("target", ["local", "systemd", "compose", "kubernetes", "ray_serve"])
def test_no_rule_falls_over_a_value_that_could_not_be_built(target: str) -> None:
    config = load_config([MODEL, f"target={target}", f"server.qos=[{GOLD}]", "server.qos_default=gold"])
    for group in (field.name for field in fields(config)):
        part = getattr(config, group)
        assert broken_rules(replace(config, **{group: UNBUILT}), Origins()) == []
        for key in (field.name for field in fields(part)):
            values = [UNBUILT, [UNBUILT]] if isinstance(getattr(part, key), list) else [UNBUILT]
            for value in values:
                changed = replace(config, **{group: replace(part, **{key: value})})
                assert broken_rules(changed, Origins()) == [], f"{group}.{key}"


@pytest.mark.parametrize("key", ["name", "share", "priority", "max_requests"])
def test_no_rule_falls_over_a_class_of_service_that_could_not_be_built(key: str) -> None:
    server = load_config([MODEL, f"server.qos=[{GOLD}]", "server.qos_default=gold"]).server
    torn = replace(server, qos=[replace(server.qos[0], **{key: UNBUILT})])
    assert broken_rules(replace(load_config([MODEL]), server=torn), Origins()) == []


def test_a_longer_session_is_allowed_where_the_rotary_table_is_stretched() -> None:
    words = [MODEL, "engine.session_len=100000", "engine.rope_scaling_factor=4.0"]
    assert load_config(words).engine.session_len == 100000


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_divisors_of_the_kv_heads_are_allowed(tp: int) -> None:
    assert load_config([MODEL, f"engine.tp={tp}"]).engine.tp == tp


def test_tls_with_both_files_is_allowed(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    key.touch()
    certificate.touch()
    config = load_config([MODEL, f"server.ssl_keyfile={key}", f"server.ssl_certfile={certificate}"])
    assert config.server.ssl_keyfile == str(key)
