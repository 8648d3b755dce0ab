"""The memory in which one rank keeps keys and values."""

import torch

from engines.errors import DeviceError
from engines.memory.kv_bytes import (
    dtype_rule,
    head_dim_rule,
    kv_formats,
    kv_heads_per_rank,
    num_scales,
    row_bytes,
)
from engines.memory.kv_layer import KvLayer, scale_dtype
from engines.options import EngineKind, KvOptions
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

    Raises DeviceError where the device has not that much memory, or heads or dtype do not suit the format.
    """
    check_format(spec, options, dtype=dtype)
    shape = (num_pages, kv_heads_per_rank(spec, tp=tp), options.page_tokens)
    try:
        return [_layer(spec, options, shape, dtype=dtype, device=device) for _ in range(spec.num_layers)]
    except RuntimeError as error:  # out of memory is one, under several names
        raise DeviceError(
            f"KV cache of {num_pages} pages cannot be allocated on {device}: lower "
            f"engine.cache_max_entry_count or engine.num_gpu_blocks ({error})"
        ) from error


def check_format(
    spec: DecoderSpec, options: KvOptions, *, dtype: torch.dtype, kind: EngineKind = "auto"
) -> None:
    """Raise DeviceError where heads or dtype do not suit the format of keys and values."""
    name = str(dtype).removeprefix("torch.")
    formats = " or ".join(kv_formats(spec.head_dim, name, kind=kind))
    rule = head_dim_rule(spec.head_dim, options.format, kind=kind)
    if rule is not None:
        raise DeviceError(f"quantization.kv={options.format}: {rule}; use quantization.kv={formats}")
    rule = dtype_rule(name, options.format)
    if rule is not None:
        raise DeviceError(
            f"quantization.kv={options.format}: {rule}; use quantization.kv={formats}, or "
            "engine.dtype=bfloat16"
        )


def _layer(
    spec: DecoderSpec,
    options: KvOptions,
    shape: tuple[int, int, int],
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> KvLayer:
    form = options.format
    if form == "none":
        keys, values = (torch.empty((*shape, spec.head_dim), dtype=dtype, device=device) for _ in range(2))
        return KvLayer(keys_PKTD=keys, values_PKTD=values)
    width = row_bytes(spec.head_dim, form, dtype_bytes=1)
    keys, values = (torch.empty((*shape, width), dtype=torch.uint8, device=device) for _ in range(2))
    width, dtype = num_scales(form), scale_dtype(form)
    scales = [torch.empty((*shape, width), dtype=dtype, device=device) for _ in range(2)]
    return KvLayer(
        keys_PKTD=keys,
        values_PKTD=values,
        format=form,
        key_scales_PKTS=scales[0],
        value_scales_PKTS=scales[1],
    )
