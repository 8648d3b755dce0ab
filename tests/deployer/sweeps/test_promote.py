"""A measured point becomes a locked recipe."""

from pathlib import Path

import pytest
import yaml
from ops_repository import write_ops
from sweep_results import done, left, written_run

from deployer.cli import main
from deployer.recipes.lock_file import read_lock

Captured = pytest.CaptureFixture[str]
WORDS = ["+model=pocket_vl", "engine=pytorch", "engine.max_batch_size=2,4", "bench=decode", "bench.warmup=0"]
POINTS = [done(1, "engine.max_batch_size=2"), left(2, "engine.max_batch_size=4")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder of our own with a run in it."""
    monkeypatch.chdir(tmp_path)
    written_run(tmp_path / "run", WORDS, POINTS)
    return tmp_path


def test_the_recipe_holds_the_points_words_and_what_was_measured(elsewhere: Path, capsys: Captured) -> None:
    assert main(["sweep", "promote", "run", "point=1", "as=prod", "smoke=false"]) == 0
    assert "serve it: deploy recipes/prod.yaml" in capsys.readouterr().out
    recipe = yaml.safe_load((elsewhere / "recipes/prod.yaml").read_text())
    assert recipe["engine"] == {"max_batch_size": 2}
    assert "bench" not in str(recipe["defaults"])
    assert recipe["recipe"]["hardware"] == "cpu"
    assert recipe["recipe"]["expected"] == {
        "basis": "measured",
        "date": "2026-11-26",
        "machine": "cpu (1 threads), P9, 2 cores",
        "commit": "abc123",
        "figures": {
            "batch": 8,
            "first_token_ms": 10,
            "token_ms": 1,
            "tokens_per_s": 100,
            "requests_per_s": 5,
            "kv_tokens": 1024,
        },
    }
    assert read_lock(elsewhere / "recipes/prod.lock.json").recipe.name == "prod"
    assert main(["recipe", "verify", "recipes/prod.yaml", "smoke=false"]) == 0


def test_what_is_there_is_replaced_only_on_request(elsewhere: Path, capsys: Captured) -> None:
    words = ["sweep", "promote", "run", "point=1", "as=prod", "smoke=false"]
    assert main(words) == 0
    file = elsewhere / "recipes/prod.yaml"
    file.write_text("# mine\n")
    assert main(words) == 2
    assert "recipes/prod.yaml: is there already; write as=<another name>" in capsys.readouterr().err
    assert file.read_text() == "# mine\n"
    assert main([*words, "overwrite=true"]) == 0
    assert "basis: measured" in file.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "takes one point, as point=1; measured points: 1"),
        (
            ["run", "point=7"],
            "point=7 (command line `point=7`): is no settled point of run; measured points: 1",
        ),
        (
            ["run", "point=2"],
            "point=2 (command line `point=2`): was pruned: does not fit; measured points: 1",
        ),
        (
            ["run", "point=1", "as=a/prod"],
            "as=a/prod (command line `as=a/prod`): a recipe's file ends in .yaml",
        ),
        (["run", "point=1", "name=x"], "unknown word of `deploy sweep promote`"),
    ],
)
def test_what_cannot_be_promoted_is_refused(words: list[str], message: str, capsys: Captured) -> None:
    assert main(["sweep", "promote", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_recipe_that_does_not_lock_is_not_left_behind(elsewhere: Path, capsys: Captured) -> None:
    words = ["+model=local", f"model.path={elsewhere / 'gone'}", "engine.max_batch_size=2,4"]
    written_run(elsewhere / "other", words, POINTS)
    assert main(["sweep", "promote", "other", "point=1", "as=prod"]) == 3
    assert not (elsewhere / "recipes/prod.yaml").exists()


def test_a_sweep_of_a_recipe_is_promoted_beside_it_with_its_comments(
    elsewhere: Path, capsys: Captured
) -> None:
    ops = write_ops(elsewhere / "repository")
    words = [str(ops.recipe), "engine.session_len=512,1024", "sampling=default,greedy", "bench=decode"]
    point = done(1, "engine.session_len=512", "sampling=greedy")
    written_run(elsewhere / "swept", words, [point])
    assert main(["sweep", "promote", "swept", "point=1", "as=faster", "smoke=false"]) == 0, (
        capsys.readouterr()
    )
    text = (ops.recipe.parent / "faster.yaml").read_text()
    assert text.startswith("# What runs in production.")
    recipe = yaml.safe_load(text)
    assert recipe["engine"] == {"device_type": "cpu", "num_gpu_blocks": 16, "session_len": 512}
    assert recipe["defaults"] == [
        "deploy",
        {"model": "tiny"},
        {"override engine": "pytorch"},
        {"override sampling": "greedy"},
        "_self_",
    ]
    assert (recipe["recipe"]["name"], recipe["recipe"]["tolerance"]) == ("faster", 50)
    assert recipe["recipe"]["expected"]["figures"]["batch"] == 8
