"""Sampled rows that a device chooses by itself: nothing but a temperature, a floor and noise.

A step whose rows are all plain can be chosen inside a recorded step; any other row brings tensors of its own
shape (`engines/sampling_rows.py`).

Legend: S sampled rows.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from math import inf, log

import numpy as np
import torch
from torch import Tensor

from engines.batch_plan import Chunk
from engines.noise import noise_key


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainDraws:
    """How each row is chosen."""

    temperature_S: Tensor  # float32; 0: the largest logit
    cut_S: Tensor  # float32, the lowest (logit - largest) / temperature that is kept
    keys_S2: Tensor  # int64, `noise_key`


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainRows:
    """What a device needs to know of rows that are all plain."""

    draws: PlainDraws | None  # None: every row takes its largest logit


def plain_rows(chunks: Seq[Chunk], device: torch.device) -> PlainRows | None:
    """Return the rows of the sampled chunks where all are plain, None where one is not."""
    if not all(chunk.sequence.is_plain for chunk in chunks):
        return None
    how = [chunk.sequence.sampling for chunk in chunks]
    if not any(one.temperature for one in how):
        return PlainRows(draws=None)
    count = len(chunks)
    host = torch.empty(count, 3, dtype=torch.int64, pin_memory=device.type == "cuda")
    keys_S2, floats_S2 = host.view(-1)[: 2 * count].view(count, 2), host.view(-1)[2 * count :]
    keys_S2.numpy()[:] = [noise_key(chunk.sequence.sampling.seed, chunk.num_outputs) for chunk in chunks]
    floats = floats_S2.numpy().view(np.float32)
    floats[:count] = [one.temperature for one in how]
    floats[count:] = [log(one.min_p) if one.min_p > 0 else -inf for one in how]
    there = host.to(device, non_blocking=True).view(-1)
    floats_there = there[2 * count :].view(torch.float32)
    return PlainRows(
        draws=PlainDraws(
            temperature_S=floats_there[:count],
            cut_S=floats_there[count:],
            keys_S2=there[: 2 * count].view(count, 2),
        )
    )
