from pathlib import Path

import pytest

from deployer.cli import main
from deployer.typed_words import as_lmdeploy, as_model, as_setting


@pytest.mark.parametrize(
    ("flag", "value", "setting"),
    [
        ("--tp", "2", "engine.tp=2"),
        ("--max-batch-size", None, "engine.max_batch_size=<value>"),
        ("--server-port", "8000", "server.port=8000"),
        ("--enable-prefix-caching", "x", "engine.enable_prefix_caching=x"),
        ("--backend", "pytorch", "engine=pytorch"),
        ("--quant-policy", "8", "quantization.kv=int8"),
        ("--allow-origins", "http://a", "server.cors_origins=[http://a]"),
    ],
)
def test_a_flag_of_ours_or_of_lmdeploy_is_told_as_a_setting(
    flag: str, value: str | None, setting: str
) -> None:
    assert as_setting(flag, value) == f"settings read key=value: write {setting}"


@pytest.mark.parametrize("flag", ["--cfg", "--proxy-url", "--model-format"])
def test_a_flag_that_has_no_setting_is_told_how_settings_read(flag: str) -> None:
    assert as_setting(flag, "hf") == "settings read key=value"


def test_a_model_is_known_by_its_name_its_repository_and_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert as_model("pocket_vl") == "it is a model; write +model=pocket_vl"
    assert as_model("internvl2_8b_h200") == "it is a recipe; write +recipe=internvl2_8b_h200"
    assert as_model("opengvlab/InternVL2-8B") == "it is the repository of a model; write +model=internvl2_8b"
    assert as_model(str(tmp_path)) == f"it is a checkpoint's folder; write +model=local model.path={tmp_path}"
    assert as_model("nobody/nothing") is None
    assert as_model("nothing") is None


def test_commands_of_lmdeploy_are_known_by_their_names() -> None:
    for name in ("api_server", "api-server", "lite", "check_env", "convert", "auto_awq"):
        assert "deploy import-lmdeploy -- lmdeploy" in (as_lmdeploy([name]) or "")
    assert as_lmdeploy(["serve", "pocket_vl", "x"]) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check_env"], "unknown verb `check_env`: for a command of LMDeploy write deploy import-lmdeploy"),
        (["OpenGVLab/InternVL2-8B"], "it is the repository of a model; write +model=internvl2_8b"),
        (["serve", "OpenGVLab/InternVL2-8B"], "key=value words only; it is the repository of a model"),
        (["serve", "api_server", "a/b"], "key=value words only; for a command of LMDeploy"),
        (
            ["import-lmdeploy", "lmdeploy", "chat", "--tp", "2"],
            "flags of the other command stand behind `--`",
        ),
    ],
)
def test_what_users_of_lmdeploy_type_first_is_answered_with_what_to_write(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err
