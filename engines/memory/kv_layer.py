"""The pages in which one decoder layer keeps keys and values: tensors, and their bytes in each format.

`none` stores the compute dtype. The others quantize each row as it is stored, the D numbers of one token and
head, keys and values apart, with fp16 parameters of its own:

    int8, int4  x = (u - middle) * scale + zero    u unsigned of 8 or 4 bits; middle 128 or 8
                scale = fp16((max - min) / (2^bits - 1))
                zero  = fp16(min + middle * scale)
                u     = clamp(round((x - zero) * (1 / scale)) + middle, 0, 2^bits - 1)
    fp8         x = e4m3(code) * scale             scale = fp16(max |x| / 448)
                code  = e4m3(clamp(x * (1 / scale), -448, 448))

Arithmetic is fp32, rounding to nearest and ties to even; a scale of 0 stands for 1 / scale = 0 and gives
u = middle or code 0. Parameters are clamped to 65,504. A number moves by half a step at most, and a row of
equal numbers is its zero.

Bytes of a row, `keys_PKTD[page, head, token]`, contiguous and 16-byte aligned:

    int8, fp8   D bytes, byte d is element d
    int4        D / 2 bytes, little-endian 32-bit words; nibble n (bits 4n to 4n + 3) of word w holds element
                8 w + (0, 2, 4, 6, 1, 3, 5, 7)[n], so that `w >> 4p & 0x000f000f` is the pair (2p, 2p + 1)
    parameters  `key_scales_PKTS[page, head, token]`, fp16: (scale, zero), or (scale,) with fp8
"""

from dataclasses import dataclass

from torch import Tensor

from engines.options import KvFormat

NIBBLE_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True, kw_only=True, slots=True)
class KvLayer:
    """Keys and values of one decoder layer on one rank, in pages of page_tokens tokens."""

    keys_PKTD: Tensor  # [pages, KV heads, page_tokens, D]; quantized: uint8, D or with int4 D / 2 bytes
    values_PKTD: Tensor
    format: KvFormat = "none"
    key_scales_PKTS: Tensor | None = None  # fp16 [pages, KV heads, page_tokens, 2 or 1]; None: format `none`
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
