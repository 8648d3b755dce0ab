"""A search: seeded, resumable, told what was ruled out."""

import sys
from pathlib import Path
from typing import Any

import pytest
from sweep_results import done, left, options

from deployer.config.tree import config_tree
from deployer.errors import UnavailableError
from deployer.sweeps.point import Point, Result
from deployer.sweeps.search import Search
from deployer.sweeps.space import read_space

optuna = pytest.importorskip("optuna", reason="a search needs the extra `sweep`")
SPACE = read_space(
    [
        "engine.max_batch_size=int(interval(1,64))",
        "engine.cache_max_entry_count=interval(0.1,0.9)",
        "quantization=a,b",
    ],
    config_tree(None, ()),
)
TWO = ["tokens_per_s", "ttft_p99_ms"]


def asked(number: int, **changes: Any) -> Any:
    return options("optuna", trials=number, objectives=TWO, **changes)


def outcome(point: Point) -> Result:
    """Larger batches give more and take longer; more than 48 do not fit."""
    batch = int(point.words[0].partition("=")[2])
    if batch > 48:
        return left(point.number, *point.words)
    return done(point.number, *point.words, tokens_per_s=10.0 * batch, ttft_p99_ms=1.0 * batch)


def go(search: Search, *, most: int = 10**6) -> list[Result]:
    results: list[Result] = []
    while len(results) < most and (point := search.next()) is not None:
        results.append(outcome(point))
        search.tell(results[-1])
    return results


def test_words_are_of_the_axes_and_the_same_seed_asks_the_same(tmp_path: Path) -> None:
    one, other, third = tmp_path / "one", tmp_path / "other", tmp_path / "third"
    for folder in (one, other, third):
        folder.mkdir()
    first = go(Search(SPACE, {}, asked(8), one))
    assert [result.number for result in first] == list(range(1, 9))
    for result in first:
        batch, share, form = (word.partition("=")[2] for word in result.words)
        assert 1 <= int(batch) <= 64 and 0.1 <= float(share) <= 0.9 and form in "ab"
    assert [r.words for r in go(Search(SPACE, {}, asked(8), other))] == [r.words for r in first]
    assert [r.words for r in go(Search(SPACE, {}, asked(8, seed=1), third))] != [r.words for r in first]


def test_a_killed_search_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    search = Search(SPACE, {}, asked(12), tmp_path)
    settled = {result.number: result for result in go(search, most=5)}
    told = search.next()  # settled on disk, but the study was not told before the kill
    lost = search.next()  # ran when the process was killed
    assert told is not None and lost is not None
    settled[told.number] = outcome(told)
    rest = go(Search(SPACE, settled, asked(12), tmp_path))
    assert len(settled) + len(rest) == 12
    assert not {result.words for result in rest} & {result.words for result in settled.values()}
    study = optuna.load_study(
        study_name="sweep",
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
        ),
    )
    states = {trial.number + 1: trial.state.name for trial in study.trials}
    assert states[lost.number] == "FAIL"
    expected = {"done": "COMPLETE", "pruned": "PRUNED"}
    for result in [*settled.values(), *rest]:
        assert states[result.number] == expected[result.status]
    assert "PRUNED" in states.values()


def test_without_optuna_the_way_to_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UnavailableError, match=r"pip install 'vlm-deployer\[sweep\]'"):
        Search(SPACE, {}, asked(8), tmp_path)
