"""The memory in which one rank keeps keys and values."""

import torch

from engines.errors import DeviceError
from engines.kv_bytes import kv_heads_per_rank
from engines.ops import KvLayer
from engines.options import KvOptions
from engines.spec import DecoderSpec


def allocate_kv(
    spec: DecoderSpec,
    options: KvOptions,
    *,
    num_pages: int,
    tp: int,
    dtype: torch.dtype,
    device: torch.device,
) -> list[KvLayer]:
    """Allocate the pages of every layer; their content is undefined until a step writes it.

    Raises DeviceError where the device has not that much memory or the format has no kernels yet.
    """
    if options.format != "none":
        raise DeviceError(
            f"quantization.kv={options.format}: this engine stores keys and values in its compute dtype; "
            "use quantization.kv=none"
        )
    shape = (num_pages, kv_heads_per_rank(spec, tp=tp), options.page_tokens, spec.head_dim)
    try:
        return [
            KvLayer(
                keys_PKTD=torch.empty(shape, dtype=dtype, device=device),
                values_PKTD=torch.empty(shape, dtype=dtype, device=device),
            )
            for _ in range(spec.num_layers)
        ]
    except RuntimeError as error:  # out of memory is one, under several names
        raise DeviceError(
            f"KV cache of {num_pages} pages cannot be allocated on {device}: lower "
            f"engine.cache_max_entry_count or engine.num_gpu_blocks ({error})"
        ) from error
