"""The pages of one decoder layer as kernels take them: which tensors, and where they stand."""

from collections.abc import Mapping

import torch
from torch import Tensor

from engines.memory.kv_bytes import head_dim_rule, num_scales, row_bytes
from engines.memory.kv_layer import KvLayer, scale_dtype
from engines.options import KvFormat

# -DKV_FORMAT of the kernels.
KV_FORMATS: Mapping[KvFormat, int] = {"none": 0, "int8": 1, "int4": 2, "fp8": 3, "bf12": 4}

Operand = tuple[Tensor, torch.dtype, tuple[int, ...]]


def pool_operands(layer: KvLayer, *, dim: int, dtype: torch.dtype) -> dict[str, Operand]:
    """Return the tensors of a layer with the dtype and shape each must have, for `operands.check`."""
    rows = layer.keys_PKTD.shape[:3]
    if layer.format == "none":
        shape = (*rows, dim)
        return {"keys": (layer.keys_PKTD, dtype, shape), "values": (layer.values_PKTD, dtype, shape)}
    codes = (*rows, row_bytes(dim, layer.format, dtype_bytes=dtype.itemsize))
    scales = (*rows, num_scales(layer.format))
    assert layer.key_scales_PKTS is not None, "quantized pages have parameters"
    assert layer.value_scales_PKTS is not None, "quantized pages have parameters"
    return {
        "keys": (layer.keys_PKTD, torch.uint8, codes),
        "values": (layer.values_PKTD, torch.uint8, codes),
        "key scales": (layer.key_scales_PKTS, scale_dtype(layer.format), scales),
        "value scales": (layer.value_scales_PKTS, scale_dtype(layer.format), scales),
    }


def bf12_faults(format: KvFormat, dtype: torch.dtype, *, dim: int) -> list[str]:
    """Return what keeps kernels from bf12 pages: numbers of 12 bits are bf16's, in groups of 32."""
    if format != "bf12":
        return []
    faults = []
    if dtype != torch.bfloat16:
        faults.append(f"bf12 pages of {dtype}: they keep torch.bfloat16 alone; use int8")
    rule = head_dim_rule(dim, format)
    if rule is not None:
        faults.append(f"bf12 pages: {rule}")
    return faults


def scale_addresses(layer: KvLayer) -> tuple[int, int]:
    """Return where the parameters of keys and values stand, 0 where there are none."""
    keys, values = layer.key_scales_PKTS, layer.value_scales_PKTS
    return (0 if keys is None else keys.data_ptr(), 0 if values is None else values.data_ptr())


def pool_addresses(layer: KvLayer) -> tuple[int, ...]:
    """Return where keys and values stand and, with quantized pages, their parameters: what stores take."""
    pages = (layer.keys_PKTD.data_ptr(), layer.values_PKTD.data_ptr())
    return pages if layer.format == "none" else (*pages, *scale_addresses(layer))
