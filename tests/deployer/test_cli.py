import subprocess
import sys
from pathlib import Path

import pytest

from deployer.cli import main

Captured = pytest.CaptureFixture[str]


def test_the_version_is_printed(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vlm-deployer ")


def test_without_anything_it_lists_the_models_and_how_to_start_the_one_that_ships(capsys: Captured) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert "internvl2_8b" in out and "pocket_vl" in out
    assert "deploy +model=pocket_vl" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["serv", "+model=pocket_vl"], 2, "unknown verb `serv`: nearest verbs: `serve`"),
        (["--engine=x"], 2, "unknown flag `--engine=x`"),
        (["--engine", "x"], 2, "settings read key=value: write engine=x"),
        (["--engine"], 2, "settings read key=value: write engine=<value>"),
        (["--model", "pocket_vl"], 2, "settings read key=value: write +model=pocket_vl"),
        (["+model=pocket_vl", "engine.tp"], 2, "key=value words only; give it a value: engine.tp=<value>"),
        (["+model=pocket_vl", "hardware=h100"], 3, "it is for `deploy plan`, `deploy render`"),
        (
            ["+model=OpenGVLab/InternVL2-8B"],
            3,
            "it is the repository of `internvl2_8b`; write +model=internvl2_8b",
        ),
        (["+model=./mine"], 3, "for a folder write +model=local model.path=./mine"),
        (
            ["+model=some/other"],
            3,
            "no option stands for this repository; write +model=<what it was made from> model.repo=",
        ),
        (["+model=pocket_vl", "x" * 5000], 2, "come key=value words only"),
        (["plan", "y" * 300 + "/z"], 2, "come key=value words only"),
        (["+model=pocket_vl", f"server.port={'9' * 5000}"], 3, "the value cannot be read"),
        (["+model=local", "model.path='~nobody_here/x'"], 3, "is not a folder"),
        (["+model=pocket_vl", "--config-dir", "~nobody_here/x"], 3, "is not a folder"),
        (["+recipe=nosuch"], 3, "unknown recipe `nosuch` (command line `+recipe=nosuch`): none is near it"),
        (["--port", "80"], 2, "settings read key=value: write server.port=80"),
        (
            ["explain", "+model=pocket_vl", "output=json", "output=table"],
            2,
            "`output=json`, `output=table`: the form is given 2 times; keep one of them",
        ),
        (
            ["recipe", "verify", "pocket_vl_cpu", "offline=true", "offline=false"],
            2,
            "`offline=false`: `offline` is given twice; keep one of them",
        ),
        (
            ["+model=pocket_vl", "engine.tp=1", "engine.tp=2"],
            3,
            "`engine.tp` (command line `engine.tp=1`, `engine.tp=2`): is given 2 times; keep one of them",
        ),
        (["+model"], 2, "`+model`: is neither a verb nor key=value; write model=<value>"),
        (
            ["chat", "OpenGVLab/InternVL2-8B"],
            2,
            "`OpenGVLab/InternVL2-8B`: names a model; write +model=internvl2_8b",
        ),
        (["chat", "pocket_vl"], 2, "`pocket_vl`: names a model; write +model=pocket_vl"),
        (["+model", "engine=turbo"], 3, "`+model`: is neither a verb nor key=value"),
        (["pocket_vl"], 2, "unknown verb `pocket_vl`: it is a model; write +model=pocket_vl"),
        (["explain", "--config-dir"], 2, "write --config-dir DIR"),
        (["serve", "pocket_vl"], 2, "come key=value words only; it is a model; write +model=pocket_vl"),
        (["gone.yaml"], 2, "recipe `gone.yaml`: there is no such file"),
        (["engine.tp=2"], 3, "missing `model`: add +model=<name>"),
        (["+model=internvl2_8"], 3, "unknown model `internvl2_8`"),
        (["+model=internvl2_8b", "engine.tp=3"], 3, "must divide the 8 KV heads"),
        (["--config-dir", "/gone", "+model=internvl2_8b"], 3, "--config-dir /gone: is not a folder"),
        (["list", "modells"], 2, "nearest groups: `model`"),
        (["list", "models", "engines"], 2, "takes one group"),
        (
            ["-m", "serve", "+model=pocket_vl"],
            2,
            "a sweep measures; write deploy -m bench",
        ),
        (["-m", "+model=pocket_vl"], 2, "`deploy -m serve`: a sweep measures"),
        (["-m", "bench", "+model=pocket_vl"], 3, "a sweep needs a key with several values"),
        (["sweep", "resum"], 2, "unknown sub-verb `resum`: nearest sub-verbs: `resume`"),
        (["sweep", "show", "/gone"], 2, "/gone: is no run of a sweep"),
        (["completion", "tcsh"], 2, "shells: `bash`, `fish`, `zsh`"),
        (["explain", "output=xml", "+model=internvl2_8b"], 2, "use output=json or output=table"),
    ],
)
def test_a_mistake_ends_in_one_line_and_its_exit_code(
    capsys: Captured, words: list[str], code: int, message: str
) -> None:
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and message in err
    assert "Traceback" not in err


def test_each_fault_has_a_line_of_its_own(capsys: Captured) -> None:
    assert main(["+model=internvl2_8b", "engine.tpp=3", "servr.port=1"]) == 3
    assert capsys.readouterr().err.count("error: ") == 2


def test_output_goes_through_a_pipe_that_closes_early() -> None:
    command = f"{sys.executable} -m deployer.cli list models | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("model ")
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["list", "models"], ["+model=pocket_vl", "server.port=0"]])
def test_output_to_a_full_disk_is_an_error_of_one_line(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "deployer.cli", *words],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert ended.returncode == 6
    rule = "standard output or a file of this command cannot be written: no space left"
    assert ended.stderr.splitlines()[-1] == f"error: {rule}; make some, or write elsewhere"
    assert "Traceback" not in ended.stderr


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("deployer.listing.run", interrupt)
    assert main(["list"]) == 130


def test_no_colour_where_nobody_asked_for_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deployer.cli", "nonsense"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "\033" not in done.stderr
