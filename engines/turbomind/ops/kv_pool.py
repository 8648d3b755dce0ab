"""The pages of one decoder layer as kernels take them: which tensors, and where they stand."""

from collections.abc import Mapping

import torch
from torch import Tensor

from engines.memory.kv_bytes import num_scales, row_bytes
from engines.memory.kv_layer import KvLayer
from engines.options import KvFormat

# -DKV_FORMAT of the kernels.
KV_FORMATS: Mapping[KvFormat, int] = {"none": 0, "int8": 1, "int4": 2, "fp8": 3}

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
        "key scales": (layer.key_scales_PKTS, torch.float16, scales),
        "value scales": (layer.value_scales_PKTS, torch.float16, scales),
    }


def scale_addresses(layer: KvLayer) -> tuple[int, int]:
    """Return where the parameters of keys and values stand, 0 where there are none."""
    keys, values = layer.key_scales_PKTS, layer.value_scales_PKTS
    return (0 if keys is None else keys.data_ptr(), 0 if values is None else values.data_ptr())


def pool_addresses(layer: KvLayer) -> tuple[int, ...]:
    """Return where keys and values stand and, with quantized pages, their parameters: what stores take."""
    pages = (layer.keys_PKTD.data_ptr(), layer.values_PKTD.data_ptr())
    return pages if layer.format == "none" else (*pages, *scale_addresses(layer))
