"""Points side by side on two GPUs: `pytest -m gpu tests/end_to_end/test_sweep_gpu.py`."""

import json
from pathlib import Path

import pytest

from deployer.cli import main

pytestmark = pytest.mark.gpu
WORDS = (
    "+model=internvl2_1b",
    "engine=turbomind",
    "engine.load_format=random",
    "bench=decode",
    "bench.concurrency=[8]",
    "bench.prompt_tokens=128",
    "bench.output_tokens=64",
)


@pytest.fixture(autouse=True)
def two_gpus() -> None:
    torch = pytest.importorskip("torch", reason="engines need torch")
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA GPUs")


def test_points_run_beside_each_other_and_are_priced_for_the_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = ("engine.max_batch_size=8,16,32,64", f"sweep.folder={tmp_path}", "sweep.name=run")
    assert main(["-m", "bench", *WORDS, *axes, "output=json"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert [point["status"] for point in points] == ["done"] * 4
    assert all(point["figures"]["tokens_per_s"] > 0 for point in points)
    folder = tmp_path / "run/points"
    ended = {number: (folder / f"{number:04}.json").stat().st_mtime for number in (1, 2)}
    began = {point["number"]: ended[point["number"]] - point["seconds"] for point in points[:2]}
    assert max(began.values()) < min(ended.values()), "the first two ran one after the other"
