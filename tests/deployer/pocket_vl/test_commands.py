"""What the commands that made `pocket_vl` say where they are called without what they need."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from deployer.pocket_vl import build_vocabulary, contact_sheet, export
from deployer.pocket_vl.train import train
from deployer.pocket_vl.training_options import Options, read_options


@pytest.mark.parametrize("main", [build_vocabulary.main, contact_sheet.main, export.main])
def test_without_a_file_the_usage_is_shown(
    main: Callable[[Sequence[str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "usage: python -m deployer.pocket_vl." in capsys.readouterr().err


def test_a_run_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        export.main([str(tmp_path / "run"), str(tmp_path / "t.json"), str(tmp_path / "out")])
    assert f"there is no `{tmp_path}/run/sizes.json`, `{tmp_path}/t.json`" in capsys.readouterr().err


def test_a_sheet_of_pictures_is_written(tmp_path: Path) -> None:
    contact_sheet.main([str(tmp_path / "sheet.png"), "7"])
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_training_wants_fonts_a_vocabulary_and_its_device(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="fonts=nowhere: is not a folder"):
        read_options(["fonts=nowhere"])
    with pytest.raises(SystemExit, match="tokenizer=nothing: there is no such file"):
        read_options([f"fonts={tmp_path}", "tokenizer=nothing"])
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="device=cuda: torch finds no GPU"):
            train(Options(out=tmp_path / "out"))
