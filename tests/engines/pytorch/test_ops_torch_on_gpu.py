"""Every op of the torch table on a GPU against the CPU."""

from collections.abc import Callable

import pytest
import torch
from paged_attention import make_batch
from seeded import randn
from torch import Tensor

from engines.memory.kv_layer import KvLayer
from engines.ops import Dense
from engines.pytorch.ops_torch import TorchOps
from engines.steps.step import AttentionBatch

OPS = TorchOps()


def op_calls(dtype: torch.dtype) -> dict[str, Callable[[Callable[[Tensor], Tensor]], object]]:
    """Return one call an op; each takes a function that moves a tensor to the device under test."""
    lengths = [1, 1, 7, 2], [12, 1, 7, 19]
    batch, num_pages = make_batch(*lengths, page_tokens=4, num_decodes=2, device=torch.device("cpu"))
    pages = [randn(num_pages, 2, 4, 64, dtype=dtype, seed=seed) for seed in (0, 1)]
    x, w, b = randn(11, 64, dtype=dtype), randn(64, seed=1, dtype=dtype), randn(64, seed=2, dtype=dtype)
    matrix, q, k = randn(48, 64, dtype=dtype), randn(11, 6, 64, dtype=dtype), randn(11, 2, 64, dtype=dtype)
    angles, images = randn(11, 32, seed=5), randn(2, 9, 3, 64, dtype=dtype)

    def attention(to: Callable[[Tensor], Tensor]) -> Tensor:
        moved = AttentionBatch(
            num_decodes=batch.num_decodes,
            q_starts_B1=to(batch.q_starts_B1),
            kv_lens_B=to(batch.kv_lens_B),
            pages_BP=to(batch.pages_BP),
            slots_T=to(batch.slots_T),
            max_q=batch.max_q,
            max_kv=batch.max_kv,
            chunk_lens=batch.chunk_lens,
        )
        layer = KvLayer(keys_PKTD=to(pages[0]), values_PKTD=to(pages[1]))
        return OPS.attention_paged(to(q), layer, moved, scale=0.125, window=6)

    def store(to: Callable[[Tensor], Tensor]) -> Tensor:
        layer = KvLayer(keys_PKTD=to(pages[0]).clone(), values_PKTD=to(pages[1]).clone())
        OPS.store_kv(to(k), to(k) + 1, layer, to(torch.arange(11) * 3))
        return torch.cat([layer.keys_PKTD, layer.values_PKTD])

    return {
        "embed": lambda to: OPS.embed(to(x), to(torch.tensor([3, 1, 10]))),
        "rms_norm": lambda to: OPS.rms_norm(to(x), to(w), 1e-5),
        "add_rms_norm": lambda to: OPS.add_rms_norm(to(x), to(x), to(w), 1e-5),
        "layer_norm": lambda to: OPS.layer_norm(to(x), to(w), to(b), 1e-5),
        "linear": lambda to: OPS.linear(to(x), Dense(weight_OI=to(matrix), bias_O=to(b[:48]))),
        "silu_mul": lambda to: OPS.silu_mul(to(x)),
        "gelu": lambda to: OPS.gelu(to(x)),
        "gelu_tanh": lambda to: OPS.gelu_tanh(to(x)),
        "quick_gelu": lambda to: OPS.quick_gelu(to(x)),
        "rope": lambda to: OPS.rope(to(q), to(k), to(angles.cos()), to(angles.sin())),
        "store_kv": store,
        "attention_paged": attention,
        "attention_full": lambda to: OPS.attention_full(to(images), to(images), to(images), scale=0.125),
    }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", op_calls(torch.float32))
def test_the_gpu_computes_what_the_cpu_does(name: str, dtype: torch.dtype) -> None:
    call = op_calls(dtype)[name]
    on_gpu, on_cpu = call(lambda x: x.cuda()), call(lambda x: x)
    tolerance = 2e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(on_gpu, on_cpu, atol=tolerance, rtol=tolerance, check_device=False)
