"""The pages in which one decoder layer keeps keys and values: tensors, and their bytes in each format.

`none` stores the compute dtype. The others quantize each row as it is stored, the D numbers of one token and
head, keys and values apart, with parameters of its own, fp16 but for bf12's:

    int8, int4  x = (u - middle) * scale + zero    u unsigned of 8 or 4 bits; middle 128 or 8
                scale = fp16((max - min) / (2^bits - 1))
                zero  = fp16(min + middle * scale)
                u     = clamp(round((x - zero) * (1 / scale)) + middle, 0, 2^bits - 1)
    fp8         x = e4m3(code) * scale             scale = fp16(max |x| / 448)
                code  = e4m3(clamp(x * (1 / scale), -448, 448))
    bf12        x = bf16(number) * 2^112 * scale   scale = bf16(2^(base - 112))
                number of 12 bits, base: `engines/quant/bf12_numbers.py`, of x rounded to bf16

Arithmetic is fp32, rounding to nearest and ties to even; a scale of 0 stands for 1 / scale = 0 and gives
u = middle or code 0. fp16 parameters are clamped to 65,504. A number moves by half a step at most, and a row
of equal numbers is its zero. With bf12 numbers of bf16 do not move that are at least 2^-14 of the power of
two in the largest of their row; the others move by 2^-22 of that power at most.

Bytes of a row, `keys_PKTD[page, head, token]`, contiguous and 16-byte aligned:

    int8, fp8   D bytes, byte d is element d
    int4        D / 2 bytes, little-endian 32-bit words; nibble n (bits 4n to 4n + 3) of word w holds element
                8 w + (0, 2, 4, 6, 1, 3, 5, 7)[n], so that `w >> 4p & 0x000f000f` is the pair (2p, 2p + 1)
    bf12        48 bytes for 32 elements, three rows of eight little-endian halves: half x of row n holds
                element 8 n + x in bits 15 and 10 to 0, and in bits 14 to 11 of element 24 + x the bits
                15 and 10 to 8 (n = 0), 7 to 4 (n = 1) or 3 to 0 (n = 2)
    parameters  `key_scales_PKTS[page, head, token]`: (scale, zero), or (scale,) with fp8 and bf12
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engines.options import KvFormat

NIBBLE_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def scale_dtype(format: KvFormat) -> torch.dtype:
    """Return what the parameters of a format's rows are kept in."""
    return torch.bfloat16 if format == "bf12" else torch.float16


@dataclass(frozen=True, kw_only=True, slots=True)
class KvLayer:
    """Keys and values of one decoder layer on one rank, in pages of page_tokens tokens."""

    keys_PKTD: Tensor  # [pages, KV heads, page_tokens, D]; quantized: uint8, bytes of a row
    values_PKTD: Tensor
    format: KvFormat = "none"
    key_scales_PKTS: Tensor | None = None  # [pages, KV heads, page_tokens, 2 or 1]; None: format `none`
    value_scales_PKTS: Tensor | None = None

    @property
    def page_tokens(self) -> int:
        """Tokens a page holds."""
        return self.keys_PKTD.shape[2]

    @property
    def pages(self) -> tuple[tuple[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]:
        """Rows and parameters of the keys, then of the values."""
        return (
            (self.keys_PKTD, self.key_scales_PKTS),
            (self.values_PKTD, self.value_scales_PKTS),
        )
