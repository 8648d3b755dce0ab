"""What the kernel table times around a step runs, and is counted by what it moves."""

from collections.abc import Callable

import pytest

from engines.turbomind.bench import step_rows
from engines.turbomind.bench.step_rows import SIZES, steps


def test_every_case_runs_at_every_size(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    def once(calls: list[Callable[[], object]]) -> float:
        calls[0]()
        return 2.0

    monkeypatch.setattr(step_rows, "time_us", once)
    rows = list(steps(gpu))
    assert [row.op for row in rows] == ["rope_tables", "lay_out_rows", "copy_ids"] * len(SIZES)
    assert [row.num_bytes for row in rows[:3]] == [528, 192, 16]
    assert all(row.torch_us == 2.0 for row in rows)
