from collections.abc import Sequence

import pytest
import torch
from tiny_engine import SPEC, options

from engines.memory.kv_cache import allocate_kv
from engines.network import Network
from engines.ops import KvLayer
from engines.pytorch.ops_torch import TorchOps
from engines.steps.rehearsal import row_counts, run_rows
from engines.steps.step import StepInput
from engines.weights.load import random_network


@pytest.mark.parametrize(
    ("most", "last", "num"),
    [(20000, 16384, 50), (8192, 8192, 48), (2000, 1920, 23), (1024, 1024, 16), (130, 128, 2), (63, None, 0)],
)
def test_numbers_of_rows_rise_to_the_largest_step(most: int, last: int | None, num: int) -> None:
    counts = row_counts(most)
    assert counts == sorted(set(counts))
    assert (len(counts), counts[-1] if counts else None) == (num, last)


def test_two_layers_run_once_at_each_number_of_rows() -> None:
    seen: list[tuple[int, int]] = []
    device = torch.device("cpu")
    network: Network = random_network(SPEC, ops=TorchOps(), device=device, dtype=torch.float32, seed=0)
    hidden = network.hidden

    def noted(step: StepInput, kv: Sequence[KvLayer]) -> torch.Tensor:
        seen.append((len(step.token_ids_T), len(kv)))
        return hidden(step, kv)

    network.hidden = noted  # type: ignore[method-assign]
    page_tokens = options().kv.page_tokens
    kv = allocate_kv(
        SPEC.decoder, options().kv, num_pages=200 // page_tokens + 1, tp=1, dtype=torch.float32, device=device
    )
    run_rows(network, kv[:2], 200, page_tokens=page_tokens, device=device)
    assert seen == [(64, 2), (128, 2), (192, 2)]
