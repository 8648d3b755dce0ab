"""Commands of LMDeploy in our words; each translation composes."""

import json
import shlex
from pathlib import Path

import pytest

from deployer.cli import main
from deployer.config import load_config
from deployer.config.tree import config_tree
from deployer.errors import ConfigError, UsageError
from deployer.lmdeploy.programs import ELSEWHERE, PROGRAMS
from deployer.lmdeploy.translate import Translation, translate

Captured = pytest.CaptureFixture[str]
TREE = config_tree(None, ())
MODEL = "OpenGVLab/InternVL2-8B"


def translated(command: str) -> Translation:
    return translate(command.split(), TREE)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--backend turbomind --tp 2", ["engine=turbomind", "engine.tp=2"]),
        ("--session-len 8192 --max_batch_size=64", ["engine.session_len=8192", "engine.max_batch_size=64"]),
        ("--cache-max-entry-count 0.5", ["engine.cache_max_entry_count=0.5"]),
        ("--quant-policy 8 --model-format awq", ["quantization.kv=int8", "quantization=awq"]),
        ("--enable-prefix-caching", ["engine.enable_prefix_caching=true"]),
        ("--server-name 10.0.0.1 --server-port 80", ["server.host='10.0.0.1'", "server.port=80"]),
        ("--allow-origins * --api-keys k1 k2", ["server.cors_origins=['*']", "server.api_keys=[k1,k2]"]),
        ("--log-level ERROR --model-name vl", ["server.log_level=error", "server.model_name=vl"]),
        ("--vision-max-batch-size 4", ["vision.max_batch_size=4"]),
        ("--chat-template internvl2-internlm2", ["chat_template=internvl2-internlm2"]),
        ("--revision 123e4567", ["model.revision='123e4567'"]),
        ("--speculative-num-draft-tokens 3", ["engine.speculative_num_draft_tokens=3"]),
        ("--dtype bfloat16 --device cuda", ["engine.dtype=bfloat16", "engine.device_type=cuda"]),
    ],
)
def test_flags_of_the_server_become_keys_that_compose(flags: str, expected: list[str]) -> None:
    found = translated(f"lmdeploy serve api_server {MODEL} {flags}")
    assert found.words[0] == "+model=internvl2_8b"
    assert set(expected) <= set(found.words)
    load_config([word for word in found.words if "quantization.kv" not in word])


def test_a_backslash_of_a_name_stays_one() -> None:
    words = translated(f"lmdeploy serve api_server {MODEL} --model-name a\\b").words
    assert load_config(words).server.model_name == "a\\b"


@pytest.mark.parametrize(
    ("flags", "typed"),
    [
        ("--allow-origins *", "\"server.cors_origins=['*']\""),
        ("--api-keys $KEY", "'server.api_keys=['\"'\"'$KEY'\"'\"']'"),
        ("--api-keys k1 k2", "'server.api_keys=[k1,k2]'"),
    ],
)
def test_the_command_has_no_more_quotes_than_a_shell_needs(flags: str, typed: str) -> None:
    found = translated(f"lmdeploy serve api_server {MODEL} {flags}")
    assert typed in found.command
    assert shlex.split(found.command) == ["deploy", *found.words]


def test_a_number_that_is_none_is_left_to_the_config_to_refuse() -> None:
    words = translated(f"lmdeploy serve api_server {MODEL} --rope-scaling-factor two").words
    with pytest.raises(ConfigError, match=r"engine.rope_scaling_factor='two'.*must be a number"):
        load_config(words)


def test_what_the_two_do_differently_by_default_is_said() -> None:
    found = translated(f"lmdeploy serve api_server {MODEL}")
    assert found.command == "deploy +model=internvl2_8b server.host=0.0.0.0"
    assert any("engine.enable_prefix_caching=false" in remark for remark in found.remarks)


def test_what_a_flag_has_settled_is_not_said_again() -> None:
    found = translated(f"lmdeploy serve api_server {MODEL} --enable-prefix-caching --allow-origins *")
    assert [remark for remark in found.remarks if "prefix" in remark or "origins" in remark] == []


def test_the_name_that_clients_of_lmdeploy_ask_for_is_told_unless_it_is_given() -> None:
    [remark] = [
        one for one in translated(f"lmdeploy serve api_server {MODEL}").remarks if "model_name" in one
    ]
    word = remark.split()[-1]
    assert load_config(["+model=internvl2_8b", word]).server.model_name == MODEL
    named = translated(f"lmdeploy serve api_server {MODEL} --model-name vl").remarks
    assert not any("model_name" in one for one in named)


def test_flags_without_effect_and_without_counterpart_are_named() -> None:
    found = translated(
        f"lmdeploy serve api_server {MODEL} --num-tokens-per-iter 512 --thread-safe --qos-config-path q"
    )
    notes = {line.flag.split()[0]: line for line in found.lines}
    assert notes["--num-tokens-per-iter"].note == "without effect in LMDeploy since 0.12; it has one here"
    assert notes["--num-tokens-per-iter"].words == ("engine.num_tokens_per_iter=512",)
    assert "without effect in LMDeploy" in notes["--thread-safe"].note
    drafts = translated(f"lmdeploy serve api_server {MODEL} --speculative-algorithm eagle3")
    assert any("no model drafts tokens" in line.note for line in drafts.lines)
    assert "server.qos" in notes["--qos-config-path"].note


def test_the_last_of_equal_flags_holds_and_the_others_are_told() -> None:
    found = translated(f"lmdeploy serve api_server {MODEL} --tp 2 --tp 4")
    assert [line.words for line in found.lines[1:]] == [(), ("engine.tp=4",)]
    assert "LMDeploy takes the last" in found.lines[1].note
    assert load_config(found.words).engine.tp == 4


@pytest.mark.parametrize(
    ("typed", "names"), [("fr=FOLDER legal=FOLDER", ["fr", "legal"]), ("FOLDER", ["default"])]
)
def test_adapters_keep_their_names_and_a_lone_folder_has_the_one_that_lmdeploy_gives_it(
    typed: str, names: list[str], tmp_path: Path
) -> None:
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / file).touch()
    found = translated(
        f"lmdeploy serve api_server {MODEL} --adapters {typed.replace('FOLDER', str(tmp_path))}"
    )
    assert load_config(found.words).engine.adapters == [f"{name}={tmp_path}" for name in names]


def test_what_sums_over_gpus_is_no_question_of_several_machines() -> None:
    found = translated(f"lmdeploy serve api_server {MODEL} --communicator nccl")
    assert found.lines[1].words == () and "NCCL" in found.lines[1].note


def test_switches_take_no_value_and_lists_take_all_of_theirs() -> None:
    found = translated(
        f"lmdeploy serve api_server --allow-credentials {MODEL} --allow-methods GET POST --eager-mode "
        "--allow-headers X-A X-B --cudagraph-capture-batch-sizes 1 2 --model-format llama"
    )
    assert found.words == ("+model=internvl2_8b", "server.host=0.0.0.0")
    assert [line.flag for line in found.lines] == [
        MODEL,
        "--allow-credentials",
        "--allow-methods GET POST",
        "--eager-mode",
        "--allow-headers X-A X-B",
        "--cudagraph-capture-batch-sizes 1 2",
        "--model-format llama",
    ]


def test_every_flag_has_a_key_or_says_why_it_has_none() -> None:
    for program in PROGRAMS.values():
        for name, flag in program.flags.items():
            assert flag.key or flag.words or flag.note, name


def test_chat_and_auto_awq_are_read_as_well(tmp_path: Path) -> None:
    assert translated(f"lmdeploy chat {MODEL} --cap completion").command == (
        "deploy chat +model=internvl2_8b chat_template.capability=completion"
    )
    found = translated(
        f"lmdeploy lite auto_awq {MODEL} --work-dir out --calib-samples 64 --w-bits 4 --search-scale"
    )
    assert found.command == (
        "deploy quantize +model=internvl2_8b quantization=awq quantize.out=out quantize.num_samples=64 "
        "quantize.search=true"
    )
    assert translated(f"lmdeploy lite auto_awq {tmp_path}").words[:2] == (
        "+model=local",
        f"model.path={tmp_path}",
    )


def test_gradio_is_the_server_with_a_chat_beside_it() -> None:
    found = translated(f"lmdeploy serve gradio {MODEL} --server-port 7000 --tp 2 --share")
    assert found.command == (
        "deploy +model=internvl2_8b server=gradio server.gradio_port=7000 engine.tp=2 server.host=0.0.0.0"
    )
    assert "no tunnel" in found.lines[3].note
    assert load_config(found.words).server.gradio_port == 7000


def test_gptq_and_smooth_quant_are_made_as_lmdeploy_makes_them() -> None:
    assert translated(f"lmdeploy lite auto_gptq {MODEL} --w-group-size 64").command == (
        "deploy quantize +model=internvl2_8b quantization=gptq quantize.symmetric=true "
        "quantize.group_size=64 quantize.out=./work_dir"
    )
    assert translated(f"lmdeploy lite smooth_quant {MODEL} --work-dir w8").command == (
        "deploy quantize +model=internvl2_8b quantize.out=w8 quantization=smooth_quant"
    )
    assert translated(f"lmdeploy lite smooth_quant {MODEL} --quant-dtype fp8").command == (
        "deploy quantize +model=internvl2_8b quantization=fp8 quantize.out=./work_dir"
    )


def test_no_command_is_both_translated_and_elsewhere() -> None:
    assert not PROGRAMS.keys() & ELSEWHERE.keys()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"lmdeploy serve api_server {MODEL} --tpp 2", "`--tpp`: nearest flags: `--tp`"),
        (f"lmdeploy serve api_server {MODEL} --tp", "`--tp`: needs a value"),
        ("lmdeploy serve api_server", "names no model: LMDeploy takes one model"),
        ("lmdeploy serve api_server a b", "names `a`, `b`: LMDeploy takes one model"),
        (f"lmdeploy api_server {MODEL}", "`lmdeploy api_server`: write `lmdeploy serve api_server`"),
        ("lmdeploy serve nobody x", "is none of the commands that are read: `lmdeploy serve api_server`"),
        ("lmdeploy check_env --dump-file x", "`lmdeploy check_env`: is not translated; `deploy doctor`"),
        ("lmdeploy serve gradio http://h:1", "is a server and no model; it has a page of its own at `/`"),
    ],
)
def test_what_is_no_such_command_is_refused(command: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        translated(command)
    assert message in str(raised.value)


def test_variables_in_front_of_the_command_stay_there() -> None:
    found = translated(f"CUDA_VISIBLE_DEVICES=0,1 /opt/bin/lmdeploy chat {MODEL} --tp 2")
    assert found.command == "CUDA_VISIBLE_DEVICES=0,1 deploy chat +model=internvl2_8b engine.tp=2"
    spaced = translate(["A=b c", "lmdeploy", "chat", MODEL], TREE)
    assert spaced.command.startswith("A='b c' deploy chat")


def test_a_container_around_the_command_is_left_out_and_told() -> None:
    found = translated(f"docker run --gpus all -e A=b openmmlab/lmdeploy:latest lmdeploy chat {MODEL}")
    assert found.command == "deploy chat +model=internvl2_8b"
    assert found.remarks[-1].startswith(
        "left out: `docker run --gpus all -e A=b openmmlab/lmdeploy:latest`; "
    )


def test_a_value_without_counterpart_and_an_unknown_repository_are_told() -> None:
    found = translated("lmdeploy serve api_server OpenGVLab/InternVL2-9B --quant-policy 42")
    assert found.words[:2] == ("+model=local", "model.path=DIR")
    assert "opengvlab/internvl2-8b" in found.lines[0].note
    assert found.lines[1].note.startswith("no counterpart for `42`")
    (line, *_) = translated("lmdeploy serve api_server foo/bar").lines
    assert line.note.endswith("its folder for DIR; `deploy list models` shows every model that has an option")


def test_the_command_goes_to_standard_output_alone(capsys: Captured) -> None:
    assert (
        main(["import-lmdeploy", "--", "lmdeploy", "serve", "api_server", MODEL, "--tp", "2", "--help-me=1"])
        == 2
    )
    assert "`--help-me`" in capsys.readouterr().err
    assert main(["import-lmdeploy", "--", "lmdeploy", "serve", "api_server", MODEL, "--tp", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == "deploy +model=internvl2_8b engine.tp=2 server.host=0.0.0.0\n"
    assert "--tp 2" in err
    assert main(["import-lmdeploy", "output=json", "--", "lmdeploy", "chat", MODEL]) == 0
    assert json.loads(capsys.readouterr().out)["command"] == "deploy chat +model=internvl2_8b"
    assert main(["import-lmdeploy", "lmdeploy", "chat", MODEL]) == 2
    assert "reads one command behind `--`" in capsys.readouterr().err
    assert main(["serve", "+model=pocket_vl", "--", "x"]) == 2
    assert "unknown flag `--`" in capsys.readouterr().err
