"""A run's folder: settled points are whole, stay, and belong to one process."""

from pathlib import Path

import pytest
from sweep_results import done, left, written_run

from deployer.errors import ConfigError, UnavailableError, UsageError
from deployer.sweeps.run_folder import open_run


def test_what_is_settled_is_read_back_as_it_was(tmp_path: Path) -> None:
    settled = [done(1, "engine.tp=1"), left(2, "engine.tp=2")]
    written_run(tmp_path / "run", ["+model=pocket_vl", "engine.tp=1,2"], settled)
    opened = open_run(tmp_path / "run")
    assert opened.results() == {1: settled[0], 2: settled[1]}
    assert opened.asked.words == ["+model=pocket_vl", "engine.tp=1,2"]
    assert opened.asked.options.objectives[0] == "tokens_per_s"


def test_a_point_half_written_by_a_killed_process_does_not_count(tmp_path: Path) -> None:
    run = written_run(tmp_path / "run", ["engine.tp=1,2"], [done(1, "engine.tp=1")])
    (run.path / "points/0002.writing").write_text('{"number": 2, "wor')
    assert list(open_run(run.path).results()) == [1]


def test_a_second_process_is_refused_while_the_first_works(tmp_path: Path) -> None:
    run = written_run(tmp_path / "run", ["engine.tp=1,2"], [])
    with (
        run.held(),
        pytest.raises(UnavailableError, match="another process runs this sweep"),
        open_run(run.path).held(),
    ):
        pass
    with open_run(run.path).held():
        pass


def test_folders_that_are_none_and_files_that_are_broken_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run of a sweep"):
        open_run(tmp_path)
    run = written_run(tmp_path / "run", ["engine.tp=1,2"], [done(1, "engine.tp=1")])
    with pytest.raises(UsageError, match="go on with it: deploy sweep resume"):
        written_run(run.path, ["engine.tp=1,2"], [])
    (run.path / "points/0001.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"0001.json: is not what this version writes"):
        run.results()
    manifest = run.path / "sweep.json"
    manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(ConfigError, match="this version reads schema 1"):
        open_run(run.path)
