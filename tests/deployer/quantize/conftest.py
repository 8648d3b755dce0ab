"""A tiny checkpoint, pictures to calibrate on, and the command that quantizes it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from own_words import with_own
from PIL import Image
from quantizing import FEW
from tiny_checkpoint import write_tiny_checkpoint

from deployer.cli import main

Quantize = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint that is not quantized."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Three pictures with a question each."""
    folder = tmp_path / "samples"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", (40, 30), (80 * i, 20, 90)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"What colour is number {i}?")
    return folder


@pytest.fixture
def quantize(plain: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Quantize:
    """Run `deploy quantize` on the tiny checkpoint; returns exit code, output and messages."""

    def run(*words: str) -> tuple[int, str, str]:
        shared = (
            "+model=local",
            f"model.path={plain}",
            f"quantize.samples={samples}",
            f"quantize.out={tmp_path / 'out'}",
            "engine.device_type=cpu",
            *FEW,
        )
        code = main(["quantize", *with_own(shared, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return run
