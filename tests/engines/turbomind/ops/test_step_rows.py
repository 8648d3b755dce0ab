"""A step into the memory of a graph, and its tokens out of it."""

import pytest
import torch

from engines.steps.decode_rows import PAGES
from engines.turbomind.ops.step_rows import copy_ids, lay_out_rows

MOST, MOST_PAGES, VOCAB = 6, 200, 100


def laid_out(gpu, rows: list[list[int]], *, size: int, last_ids: list[int] | None) -> dict[str, torch.Tensor]:
    """Return the memory of a graph, full of 77 before."""
    host = torch.tensor(rows, dtype=torch.int32)
    if gpu.device.type == "cuda":
        host = host.pin_memory()
    made = {
        "tokens_5N": torch.full((5, MOST), 77, device=gpu.device),
        "kv_lens_N": torch.full((MOST,), 77, dtype=torch.int32, device=gpu.device),
        "pages_NP": torch.full((MOST, MOST_PAGES), 77, dtype=torch.int32, device=gpu.device),
    }
    last = None if last_ids is None else torch.tensor(last_ids, device=gpu.device)
    lay_out_rows(gpu, host, last, size=size, vocab=VOCAB, **made)
    return {name: x.cpu() for name, x in made.items()}


def test_rows_come_where_a_graph_reads_them_and_those_behind_are_empty(gpu) -> None:
    found = laid_out(
        gpu, [[5, 6, 9, 70, 1, -1, 7, 3, 4], [8, 1, 2, 20, -1, -1, 2, 1, 0]], size=4, last_ids=None
    )
    assert found["tokens_5N"].tolist() == [
        [5, 8, 77, 77, 77, 77],
        [6, 1, 77, 77, 77, 77],
        [9, 2, 77, 77, 77, 77],
        [70, 20, -1, -1, 77, 77],
        [1, -1, -1, -1, 77, 77],
    ]
    assert found["kv_lens_N"].tolist() == [7, 2, 0, 0, 77, 77]
    assert found["pages_NP"][:3, :3].tolist() == [[3, 4, 77], [1, 0, 77], [77, 77, 77]]


def test_a_token_with_a_source_is_what_the_last_step_chose_and_always_one_of_the_vocabulary(gpu) -> None:
    rows = [[0, 6, 9, 70, -1, source, 7, 3] for source in (2, 0, 1)]
    found = laid_out(gpu, rows, size=3, last_ids=[41, VOCAB, 43])
    assert found["tokens_5N"][0, :3].tolist() == [43, 41, VOCAB - 1]


def test_more_pages_than_threads_are_all_copied(gpu) -> None:
    pages = list(range(1000, 1000 + MOST_PAGES))
    found = laid_out(gpu, [[1, 2, 3, 4, -1, -1, 6, *pages]], size=1, last_ids=None)
    assert found["pages_NP"][0].tolist() == pages


def test_a_step_that_is_too_large_for_its_graph_is_our_fault(gpu) -> None:
    with pytest.raises(AssertionError, match="a graph of fewer rows"):
        laid_out(gpu, [[0] * (PAGES + 1)] * 3, size=2, last_ids=None)
    with pytest.raises(AssertionError, match="more pages"):
        laid_out(gpu, [[0] * (PAGES + MOST_PAGES + 1)], size=1, last_ids=None)


@pytest.mark.parametrize("count", [1, 300])
def test_tokens_are_brought_to_the_host(gpu, count: int) -> None:
    to = torch.zeros(count, dtype=torch.int64, pin_memory=gpu.device.type == "cuda")
    copy_ids(gpu, torch.arange(5, 5 + count, device=gpu.device), to)
    if gpu.device.type == "cuda":
        torch.cuda.synchronize()
    assert to.tolist() == list(range(5, 5 + count))
