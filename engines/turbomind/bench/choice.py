"""Cases of the choice of tokens from the logits of InternVL2-8B's head."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from engines.sampling.choice_rows import CHOICE, CHOICE_WORDS
from engines.sampling.next_token import sample
from engines.sampling.noise import noise_key
from engines.sampling.sampling_rows import Draws, Masks, SamplingRows
from engines.turbomind.bench.table import Row
from engines.turbomind.bench.timing import num_sets, time_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.choose_token import choose_token

VOCAB, PADDED = 92553, 92608
ROWS = (1, 64, 256)
# Temperature, top_k and top_p of each way: greedy, drawn, drawn as conf/sampling/default.yaml says, and that
# from every other token or so, as a grammar has it inside a string.
WAYS = {
    "greedy": (0.0, VOCAB, 1.0),
    "drawn": (0.8, VOCAB, 1.0),
    "cut": (0.8, 40, 0.8),
    "masked": (0.8, 40, 0.8),
}


def greedy(gpu: Gpu, num_rows: int) -> Callable[[Tensor], Tensor]:
    """Return what an engine takes the tokens of so many greedy rows with."""
    choices_SC = _choice(num_rows, *WAYS["greedy"]).to(gpu.device)
    return partial(choose_token, gpu, choices_SC=choices_SC, **_tables(gpu))


def choices(gpu: Gpu) -> Iterator[Row]:
    """Yield each way at each number of rows; the logits of the peers' chat models have such a spread."""
    tables = _tables(gpu)
    for num_rows in ROWS:
        size = num_rows * PADDED * 2
        logits = [
            (4 * torch.randn(num_rows, PADDED, device="cuda")).bfloat16()[:, :VOCAB]
            for _ in range(num_sets(size))
        ]
        for name, way in WAYS.items():
            masks = _masks(num_rows) if name == "masked" else None
            choice = _choice(num_rows, *way, masks=masks).to(gpu.device)
            rows = _sampling_rows(num_rows, *way, masks=masks)
            yield Row(
                op="choose_token",
                shape=f"S={num_rows} {name}",
                us=time_us([partial(choose_token, gpu, x, choice, **tables) for x in logits]),
                num_bytes=size,
                torch_us=time_us([partial(sample, x, rows) for x in logits]),
            )


def _tables(gpu: Gpu) -> dict[str, Tensor]:
    """Return the tables of penalties, which no row uses."""
    return {
        "seen_NV": torch.zeros(1, VOCAB, dtype=torch.bool, device=gpu.device),
        "outputs_NV": torch.zeros(1, VOCAB, dtype=torch.int32, device=gpu.device),
    }


def _masks(num_rows: int) -> Masks:
    words_RW = torch.randint(
        -(1 << 31), 1 << 31, (num_rows, -(-VOCAB // 32)), dtype=torch.int32, device="cuda"
    )
    return Masks(rows_R=torch.arange(num_rows, device="cuda"), words_RW=words_RW)


def _choice(
    num_rows: int, temperature: float, top_k: int, top_p: float, *, masks: Masks | None = None
) -> Tensor:
    host_SC = torch.zeros(num_rows, CHOICE_WORDS, dtype=torch.int64)
    addresses = [0] * num_rows if masks is None else [row_W.data_ptr() for row_W in masks.words_RW]
    host_SC.numpy().view(CHOICE)[:, 0] = [
        (*noise_key(row, 0), temperature, float("-inf"), top_p, top_k, 1.0, 0.0, 0.0, 0, addresses[row], 0, 0)
        for row in range(num_rows)
    ]
    return host_SC


def _sampling_rows(
    num_rows: int, temperature: float, top_k: int, top_p: float, *, masks: Masks | None
) -> SamplingRows:
    """Return what the sampler makes of such rows."""

    def column(value: float) -> Tensor:
        return torch.full((num_rows, 1), value, device="cuda")

    draws = Draws(
        rows_R=torch.arange(num_rows, device="cuda"),
        temperature_R1=column(temperature),
        top_k_R1=column(top_k).long(),
        top_p_R1=column(top_p),
        log_min_p_R1=column(float("-inf")),
        keys_R2=torch.tensor([noise_key(row, 0) for row in range(num_rows)], device="cuda"),
        num_candidates=top_k if top_k < VOCAB else None,
        restricts_order=top_k < VOCAB or top_p < 1,
    )
    return SamplingRows(
        penalties=None,
        edits=None,
        masks=masks,
        draws=draws if temperature else None,
    )
