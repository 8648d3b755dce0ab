"""`deploy chat` as it is typed."""

import subprocess
import sys
from pathlib import Path

import pytest
from offline import tiny_words
from PIL import Image
from tiny_checkpoint import write_tiny_checkpoint

from deployer.cli import main

DEPLOY = (sys.executable, "-m", "deployer.cli")


def test_a_script_talks_to_an_engine_of_its_own(tmp_path: Path) -> None:
    model = write_tiny_checkpoint(tmp_path / "model")
    picture = tmp_path / "a.png"
    Image.new("RGB", (40, 40), "red").save(picture)
    lines = f"/image {picture}\nWhat is it?\nAnd?\n/image {model / 'config.json'}\n"
    done = subprocess.run(
        [*DEPLOY, "chat", "+model=local", f"model.path={model}", *tiny_words()],
        input=lines.encode(), capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.stdout.count(b"\n") >= 2
    assert b"error: image 1: not a picture format we read" in done.stderr
    assert b"Traceback" not in done.stderr
    assert done.returncode == 6


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["chat.url=http://127.0.0.1:1"], "is this an OpenAI server", 6),
        (["chat.url=http://host", "+model=pocket_vl"], "`+model=pocket_vl`: chat.url=... talks to a", 2),
        (["chat.url=host:1"], "must read http://host:port", 3),
        (["chat.url=http://host", "chat.timeout_s=0"], "chat.timeout_s=0.0: must be above 0", 3),
        (["chat.url=http://host", "chat.uri=x"], "unknown key `chat.uri`", 3),
        (["+model=pocket_vl", "chat.api_key=x"], "chat.api_key: is for a server that runs", 3),
        ([], "missing `model`", 3),
    ],
)
def test_what_cannot_be_is_told(
    words: list[str], message: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", *words]) == code
    assert message in capsys.readouterr().err
