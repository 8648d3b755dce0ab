from collections.abc import Callable
from pathlib import Path

import pytest

from deployer.config import load_config
from deployer.config.targets import KubernetesTarget

Faults = Callable[..., tuple[str, ...]]
MODEL = "+model=internvl2_2b"


def test_every_fault_of_a_tree_is_reported_at_once(faults_of: Faults) -> None:
    faults = faults_of(
        MODEL, "engine.tpp=2", "engin=torch", "engine.tp=two", "+mdl=qwen", "engine.dtype=bf16"
    )
    assert len(faults) == 5


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("engine.tpp=2", "unknown key `engine.tpp` (command line `engine.tpp=2`): nearest keys: `engine.tp`"),
        (
            "+engine.tpp=2",
            "unknown key `engine.tpp` (command line `+engine.tpp=2`): nearest keys: `engine.tp`",
        ),
        ("engin=torch", "unknown key `engin` (command line `engin=torch`): nearest keys: `engine`"),
        ("+mdl=qwen", "unknown key `mdl` (command line `+mdl=qwen`): nearest keys: `model`"),
        ("engine.tp=two", "engine.tp='two' (command line `engine.tp=two`): must be a whole number"),
        ("engine.tp=true", "engine.tp=true (command line `engine.tp=true`): must be a whole number"),
        ("engine.tp=2.0", "engine.tp=2.0 (command line `engine.tp=2.0`): must be a whole number; write 2"),
        ("vision.thumbnail=1", "must be true or false"),
        ("server.api_keys=abc", "must be a list; write [abc]"),
        ("server.api_keys=[a,3]", "server.api_keys[1]=3 (command line `server.api_keys=[a,3]`)"),
        ("engine.dtype=bf16", "one of `auto`, `bfloat16`, `float16`, `float32`; nearest: `bfloat16`"),
        ("engine.kind=vllm", "must be one of `auto`, `pytorch`, `turbomind`"),
        ("sampling.top_p=inf", "must be a finite number"),
        ("sampling.temperature=nan", "must be a finite number"),
        ("~vision", "missing `vision`: choose an option with vision=<name>"),
        ("~engine.tp", "missing `engine.tp`"),
        ("engine.tp.x=3", "engine.tp={'x': 3} (command line `engine.tp.x=3`): must be a whole number"),
        ("model.name=null", "model.name=null (command line `model.name=null`): must be text"),
    ],
)
def test_a_fault_names_value_origin_rule_and_way_out(faults_of: Faults, word: str, expected: str) -> None:
    (fault,) = faults_of(MODEL, word)
    assert expected in fault


@pytest.mark.parametrize(
    ("word", "read_as"),
    [("model.revision=123e4567", "the number inf"), ("model.revision=12345678", "the number 12345678")],
)
def test_a_revision_that_looks_like_a_number_must_be_quoted(
    faults_of: Faults, word: str, read_as: str
) -> None:
    (fault,) = faults_of(MODEL, word)
    assert read_as in fault
    text = word.partition("=")[2]
    assert f"""quote it: model.revision="'{text}'\"""" in fault
    assert load_config([MODEL, f"model.revision='{text}'"]).model.revision == text


def option(ops: Path, line: str) -> tuple[Path, str]:
    """Write a model option with one more line; return the config folder and the word that chooses it."""
    (ops / "conf/model/trap.yaml").write_text(f"defaults: [internvl2_2b@_here_, _self_]\n{line}\n")
    return ops / "conf", "+model=trap"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("revision: no", "model.revision=no"),
        ("revision: 4:3", "model.revision=4:3"),
        ("revision: 012", "model.revision=012"),
        ("revision: 123e4567", "model.revision=123e4567"),
        ("revision: 0x1f", "model.revision=0x1f"),
        ("revision: 1_000", "model.revision=1_000"),
    ],
)
def test_text_that_yaml_takes_for_something_else_must_be_quoted(
    faults_of: Faults, ops: Path, line: str, expected: str
) -> None:
    folder, word = option(ops, line)
    (fault,) = faults_of(word, config_dirs=[folder])
    text = line.partition(": ")[2]
    assert fault.startswith(f"{expected} (")
    assert "model/trap.yaml:2" in fault
    assert f"quote it: revision: '{text}'" in fault
    quoted, word = option(ops, f"revision: '{text}'")
    assert load_config([word], config_dirs=[quoted]).model.revision == text


@pytest.mark.parametrize("value", ["012", "4:3", "1:30.5", "9e999"])
def test_a_number_written_so_that_yaml_reads_another_is_refused(
    faults_of: Faults, ops: Path, value: str
) -> None:
    folder, word = option(ops, f"hyper_parameters:\n  llm_config:\n    rope_theta: {value}")
    (fault,) = faults_of(word, config_dirs=[folder])
    assert f"rope_theta={value} (" in fault
    (ops / "conf/engine/trap.yaml").write_text(
        f"defaults: [pytorch@_here_, _self_]\nmax_batch_size: {value}\n"
    )
    (fault,) = faults_of(MODEL, "engine=trap", config_dirs=[ops / "conf"])
    assert f"engine.max_batch_size={value} (" in fault


def test_plain_numbers_in_other_bases_are_numbers(ops: Path) -> None:
    (ops / "conf/engine/hex.yaml").write_text(
        "defaults: [pytorch@_here_, _self_]\nmax_batch_size: 1_0\ntp: 0x2\n"
    )
    config = load_config([MODEL, "engine=hex"], config_dirs=[ops / "conf"])
    assert (config.engine.max_batch_size, config.engine.tp) == (10, 2)


def test_a_key_of_the_hyper_parameters_cannot_be_added_by_a_typo(faults_of: Faults) -> None:
    (fault,) = faults_of(MODEL, "model.hyper_parameters.llm_config.num_hidden_layer=2")
    assert "nearest keys: `model.hyper_parameters.llm_config.num_hidden_layers`" in fault
    config = load_config([MODEL, "+model.hyper_parameters.llm_config.new_key=2"])
    assert config.model.hyper_parameters is not None
    assert config.model.hyper_parameters["llm_config"]["new_key"] == 2


def test_a_mapping_that_is_set_as_a_whole_brings_its_keys(faults_of: Faults) -> None:
    words = (MODEL, "target=kubernetes")
    selector = "cloud.google.com/gke-accelerator"
    config = load_config([*words, f"target.node_selector={{{selector}: nvidia-h100-80gb}}"])
    assert isinstance(config.target, KubernetesTarget)
    assert config.target.node_selector == {selector: "nvidia-h100-80gb"}
    (fault,) = faults_of(*words, "target.node_selector.gpu=h100")
    assert fault.endswith("see `deploy explain target.node_selector`; +target.node_selector.gpu=h100 adds it")


def test_a_missing_value_in_the_hyper_parameters_is_reported(faults_of: Faults) -> None:
    faults = faults_of(MODEL, "model.hyper_parameters.llm_config.hidden_size=???")
    assert any("missing `model.hyper_parameters.llm_config.hidden_size`" in fault for fault in faults)


def test_a_whole_number_is_a_float_where_one_is_asked_for() -> None:
    timeout = load_config([MODEL, "engine.step_timeout_s=7"]).engine.step_timeout_s
    assert timeout == 7 and isinstance(timeout, float)


def test_yaml_cannot_name_code(faults_of: Faults, ops: Path) -> None:
    folder, word = option(ops, "_target_: os.system\n1: x")
    faults = faults_of(word, config_dirs=[folder])
    assert len(faults) == 2
    assert any("unknown key `model._target_`" in fault and "model/trap.yaml:2" in fault for fault in faults)


def test_a_choice_that_yaml_reads_as_a_number_is_answered_with_the_word_to_write(faults_of: Faults) -> None:
    (fault,) = faults_of("+model=pocket_vl", "quantization.kv=12")
    assert fault == (
        "quantization.kv='12' (command line `quantization.kv=12`): must be one of `bf12`, `fp8`, `int4`, "
        "`int8`, `none`; nearest: `bf12`"
    )
