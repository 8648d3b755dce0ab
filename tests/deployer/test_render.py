"""`deploy render`: the prompt of a messages file."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_checkpoint import write_tiny_checkpoint

from deployer.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "model")
    (folder / "model.safetensors").unlink()  # a prompt needs no weights
    return folder


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 30)).save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    image = {"type": "image_url", "image_url": {"url": url}}
    file = tmp_path / "messages.json"
    file.write_text(
        json.dumps([{"role": "user", "content": [image, image, {"type": "text", "text": "Compare."}]}])
    )
    return file


def render(model: Path, file: Path | str, *words: str) -> int:
    return main(["render", "+model=local", f"model.path={model}", f"render.messages={file}", *words])


def test_the_text_shows_where_pictures_stand(
    model: Path, messages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render(model, messages) == 0
    out = capsys.readouterr().out
    assert "<|im_start|>user\n" in out
    assert "<img>[image 1: 12 tokens]</img>" in out
    assert "<img>[image 2: 12 tokens]</img>" in out
    assert out.index("image 2: 12") < out.index("Compare.<|im_end|>")
    assert "tokens, 24 of them in 2 images\n" in out
    head, first, second = out.splitlines()[-3:]
    assert head.split() == ["image", "pixels", "tiles", "grid", "tokens", "rows", "first", "token"]
    assert first.split()[:6] == ["1", "60x30", "3", "2x1", "12", "12"]
    assert int(second.split()[-1]) > int(first.split()[-1]) + 12


def test_json_holds_everything(model: Path, messages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert render(model, messages, "output=json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["num_tokens"] == len(found["token_ids"])
    assert found["num_image_tokens"] == 24
    image = found["images"][0]
    assert (image["width"], image["height"], image["num_tiles"], image["grid"]) == (60, 30, 3, [2, 1])
    assert image["rows"] == [{"offset": 0, "count": 12}]
    placeholder = found["token_ids"][image["start"]]
    assert found["token_ids"][image["start"] : image["start"] + 12] == [placeholder] * 12


def test_a_request_body_will_do_and_so_will_the_config(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"model": "x", "messages": [{"role": "user", "content": "Hi"}]}))
    assert render(model, body, "chat_template.meta_instruction=Be brief.") == 0
    out = capsys.readouterr().out
    assert "Be brief." in out
    assert "image" not in out


@pytest.mark.parametrize(
    ("text", "message", "code"),
    [
        ("{", "is not JSON", 3),
        ("3", "must be a list of messages", 2),
        ('[{"role": "x", "content": ""}]', "messages[0].role='x'", 2),
        ('[{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]', "image", 2),
    ],
)
def test_a_file_at_fault_is_told(
    model: Path, tmp_path: Path, text: str, message: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "messages.json"
    file.write_text(text)
    assert render(model, file) == code
    assert message in capsys.readouterr().err
    assert render(model, tmp_path / "nothing.json") == 3
    assert "cannot be read" in capsys.readouterr().err


def test_torch_stays_out(model: Path, messages: Path) -> None:
    program = (
        "import sys; from deployer.cli import main; "
        f"code = main(['render', '+model=local', 'model.path={model}', 'render.messages={messages}']); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
