import json
from pathlib import Path

import pytest

from deployer.config.explain import run
from deployer.errors import ConfigError, UsageError

MODEL = "+model=internvl2_8b"


def test_a_value_is_shown_with_what_set_it_and_what_it_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["engine.tp", MODEL, "engine.tp=2"], []) == 0
    out = capsys.readouterr().out
    assert out == "engine.tp = 2  <- command line `engine.tp=2` (2) <- conf/engine/_runtime.yaml:4 (1)\n"


def test_the_line_that_is_named_holds_the_value(capsys: pytest.CaptureFixture[str]) -> None:
    from deployer.assets import resource_dir

    run(["output=json", MODEL], [])
    values = json.loads(capsys.readouterr().out)["values"]
    checked = 0
    for row in values:
        for setting in row["settings"]:
            if setting.get("line") is not None:
                file = resource_dir("conf") / setting["file"].removeprefix("conf/")
                line = file.read_text(encoding="utf-8").splitlines()[setting["line"] - 1]
                key = row["key"].rpartition(".")[2]
                assert line.strip().startswith((f"{key}:", "-")) or setting["text"] == "", (row["key"], line)
                checked += 1
    assert checked > 80


def test_every_value_of_the_tree_has_an_origin(capsys: pytest.CaptureFixture[str]) -> None:
    run(["output=json", MODEL], [])
    assert [row["key"] for row in json.loads(capsys.readouterr().out)["values"] if not row["settings"]] == []


def test_the_model_comes_first_and_parts_of_the_tree_can_be_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run([MODEL], [])
    assert capsys.readouterr().out.startswith("model.name = internvl2_8b")
    run(["server", "model.repo", MODEL], [])
    keys = [line.partition(" = ")[0] for line in capsys.readouterr().out.splitlines()]
    assert keys[0] == "model.repo" and all(key.startswith("server.") for key in keys[1:]) and len(keys) > 5


def test_an_override_inside_the_files_is_shown_with_both_files(capsys: pytest.CaptureFixture[str]) -> None:
    run(["model.hyper_parameters.llm_config.vocab_size", MODEL], [])
    out = capsys.readouterr().out
    assert "<- conf/model/internvl2_8b.yaml:" in out and "<- conf/model/_decoder/internlm2_7b.yaml:" in out


def test_json_says_which_option_each_group_has(capsys: pytest.CaptureFixture[str]) -> None:
    run(["output=json", "engine.tp", MODEL, "engine=pytorch"], [])
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["choices"]["model"] == "internvl2_8b" and found["choices"]["engine"] == "pytorch"
    assert found["values"][0]["value"] == 1


def test_keys_of_clients_are_never_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("output=table", "output=json"):
        run([form, "server.api_keys", MODEL, "server.api_keys=[sk-secret]"], [])
        out = capsys.readouterr().out
        assert "sk-secret" not in out
        assert "***" in out


def test_an_unknown_key_names_the_near_ones() -> None:
    with pytest.raises(UsageError, match=r"nearest keys: `engine\.tp`"):
        run(["engine.tpp", MODEL], [])


def test_a_tree_with_faults_is_shown_before_they_are_raised(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="must divide the 8 KV heads"):
        run(["engine.tp", MODEL, "engine.tp=3"], [])
    assert capsys.readouterr().out.startswith("engine.tp = 3")


def test_files_of_an_ops_repository_are_named_by_their_path(
    ops: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["server.port", "model.name", str(ops / "recipes/prod.yaml")], [])
    out = capsys.readouterr().out
    assert f"{ops}/recipes/prod.yaml:9 (9000) <- conf/server/openai.yaml:5 (23333)" in out
    assert f"{ops}/conf/model/acme.yaml:6" in out
