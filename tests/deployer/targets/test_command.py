"""`deploy render` with a target: printed, written, and never over somebody's edit."""

import json
import subprocess
from pathlib import Path

import pytest

from deployer.cli import main

WORDS = ("render", "+model=pocket_vl", "hardware=cpu", "target=kubernetes")


def test_files_are_printed_as_one_stream(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(WORDS)) == 0
    out = capsys.readouterr().out
    assert out.count("\n---\n") + out.startswith("---\n") == out.count("\napiVersion: ")
    assert "# deployment.yaml\n" in out


def test_programs_get_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "output=json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert next(file["path"] for file in found["files"]) == "configmap.yaml"


def test_a_folder_is_written_and_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "k8s"
    assert main([*WORDS, f"render.out={out}"]) == 0
    assert "new      " in capsys.readouterr().out
    subprocess.run(["sha256sum", "--check", "--strict", ".rendered.sha256"], cwd=out, check=True, timeout=20)
    assert main([*WORDS, f"render.out={out}", "target.max_replicas=2"]) == 0
    again = capsys.readouterr().out
    assert "changed  " in again and "same     " in again and "poddisruptionbudget.yaml" in again
    assert main([*WORDS, f"render.out={out}"]) == 0
    assert f"removed  {out}/poddisruptionbudget.yaml" in capsys.readouterr().out
    assert not (out / "poddisruptionbudget.yaml").exists()


def test_an_edit_is_shown_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, f"render.out={tmp_path}"]
    assert main(words) == 0
    file = tmp_path / "service.yaml"
    edited = file.read_text().replace("port: 80\n", "port: 81\n")
    file.write_text(edited)
    capsys.readouterr()
    assert main([*words, "engine.max_batch_size=3"]) == 5
    told = capsys.readouterr()
    assert "-      port: 81\n+      port: 80\n" in told.out
    assert f"error: `{file}`: edited since it was rendered" in told.err
    assert file.read_text() == edited
    assert "max_batch_size: 3" not in (tmp_path / "configmap.yaml").read_text(), "nothing else was written"
    assert main([*words, "render.overwrite=true"]) == 0
    assert "port: 80\n" in file.read_text()


def test_a_file_that_was_never_rendered_here_is_kept_too(tmp_path: Path) -> None:
    (tmp_path / "service.yaml").write_text("mine\n")
    assert main([*WORDS, f"render.out={tmp_path}"]) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["service.yaml"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out"
    file.write_text("")
    assert main([*WORDS, f"render.out={file}"]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err


def test_a_local_target_has_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "+model=pocket_vl"]) == 2
    told = capsys.readouterr().err
    assert "target=local has no files" in told and "render.messages=FILE" in told and "kubernetes" in told


def test_a_prompt_is_not_written_to_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "+model=pocket_vl", "render.messages=m.json", "render.out=x"]) == 2
    assert "render.out and render.overwrite go with a target" in capsys.readouterr().err


def test_a_plan_that_does_not_fit_is_exit_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "+model=internvl2_26b", "target=compose", "hardware=t4"]) == 4
    assert "does not fit on 1 x t4" in capsys.readouterr().err


def test_a_model_of_short_sequences_is_rendered_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "+model=cogvlm_chat", "hardware=h200"]) == 4
    assert "a sequence takes 2,048; price a shorter one with plan.prompt_tokens, " in capsys.readouterr().out
    assert main(["render", "+recipe=cogvlm_chat_h200", "target=kubernetes"]) == 0
    assert "kind: Deployment" in capsys.readouterr().out


def test_a_target_elsewhere_does_not_start_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["+model=pocket_vl", "target=kubernetes"]) == 2
    assert "does not run in the foreground" in capsys.readouterr().err
