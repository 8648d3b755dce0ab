"""Cases of the linear layer for few rows, against cuBLASLt."""

from collections.abc import Iterator
from functools import partial

import torch.nn.functional as F

from engines.ops import Dense
from engines.turbomind.bench.table import Row
from engines.turbomind.bench.timing import num_sets, random, time_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.linear_skinny import linear_skinny

# InternVL2-8B's decoder: outputs, inputs. The head has its vocabulary of 92,553 padded.
LINEARS = {
    "qkv": (6144, 4096),
    "o": (4096, 4096),
    "gate_up": (28672, 4096),
    "down": (4096, 14336),
    "head": (92608, 4096),
}
NUM_ROWS = (1, 8, 16, 32)


def linears(gpu: Gpu) -> Iterator[Row]:
    """Yield every linear layer of a decoder at several batch sizes."""
    for name, (outputs, inputs) in LINEARS.items():
        size = outputs * inputs * 2
        weights = [random(outputs, inputs) for _ in range(num_sets(size))]
        layers = [Dense(weight_OI=weight, bias_O=None) for weight in weights]
        for num_rows in NUM_ROWS:
            x = random(num_rows, inputs)
            yield Row(
                op="linear_skinny",
                shape=f"M={num_rows} {name} {outputs}x{inputs}",
                us=time_us([partial(linear_skinny, gpu, x, layer) for layer in layers]),
                num_bytes=size,
                num_flops=2.0 * num_rows * outputs * inputs,
                torch_us=time_us([partial(F.linear, x, weight) for weight in weights]),
            )
