"""The trade-off as PNG and as one page of HTML."""

import re
from pathlib import Path

import pytest
from PIL import Image
from sweep_results import done, left, written_run

from deployer.sweeps import picture

pytest.importorskip("matplotlib", reason="pictures need the extra `sweep`")
POINTS = [
    done(1, "engine.max_batch_size=2", tokens_per_s=100),
    done(2, "engine.max_batch_size=4", tokens_per_s=250, ttft_p99_ms=40),
    done(3, "engine.max_batch_size=<8>", tokens_per_s=90),
    left(4, "engine.max_batch_size=16", reason="does not fit"),
]


@pytest.mark.parametrize(
    ("objectives", "panels"),
    [
        (["tokens_per_s"], 1),
        (["tokens_per_s", "ttft_p99_ms"], 1),
        (["tokens_per_s", "ttft_p99_ms", "memory_bytes"], 2),
    ],
)
def test_a_picture_has_a_panel_an_objective_beside_the_first(
    tmp_path: Path, objectives: list[str], panels: int
) -> None:
    run = written_run(tmp_path / "run", ["engine.max_batch_size=2,4"], POINTS, objectives=objectives)
    png, page = picture.write_pictures(run, POINTS)
    with Image.open(png) as image:
        width, height = image.size
    assert (width, height > 500) == (round((0.8 + 4.2 * panels) * 150), True)
    text = page.read_text()
    assert text.count("<svg") == 1 and text.count("(more is better)") >= 1


def test_an_axis_does_not_blow_up_what_hardly_differs(tmp_path: Path) -> None:
    alike = [
        done(1, "a=1", tokens_per_s=100),
        done(2, "a=2", tokens_per_s=200, memory_bytes=2.0**30 * 1.0001),
    ]
    run = written_run(tmp_path / "run", ["a=1,2"], alike, objectives=["tokens_per_s", "memory_bytes"])
    figure = picture._drawn(run, alike, [1])
    low, high = figure.subfigs[0].axes[0].get_ylim()
    assert high - low > 0.04 * high


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_was_typed(tmp_path: Path) -> None:
    run = written_run(tmp_path / "run", ["engine.max_batch_size=2,4"], POINTS)
    _, page = picture.write_pictures(run, POINTS)
    text = page.read_text()
    loads = re.findall(r'(?:src|href)="(?!#)([^"]+)"|@import|url\((?!#)|<script|<link', text)
    assert loads == []
    assert "max_batch_size=&lt;8&gt;" in text and "max_batch_size=<8>" not in text
    assert text.count('<tr class="front">') == 2
    assert "does not fit" in text and "P9, 2 cores" in text
    assert "sweep=grid sweep.objectives=[" in text


def test_without_matplotlib_there_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "find_spec", lambda name: None)
    run = written_run(tmp_path / "run", ["engine.max_batch_size=2,4"], POINTS)
    assert picture.write_pictures(run, POINTS) == []
