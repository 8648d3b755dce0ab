"""Convolution of maps that are kept as rows of channels, which is how every other op takes them.

Legend: I pictures, C and O channels, k a kernel's side; y, x lines and columns.
"""

import torch.nn.functional as F
from torch import Tensor


def conv2d(
    x_IyxC: Tensor, weight_OCkk: Tensor, bias_O: Tensor | None, *, stride: int, padding: int, groups: int
) -> Tensor:
    """Return [I, y', x', O]; libraries know this order as channels-last and copy nothing."""
    x_ICyx = x_IyxC.permute(0, 3, 1, 2)
    out_IOyx = F.conv2d(x_ICyx, weight_OCkk, bias_O, stride=stride, padding=padding, groups=groups)
    return out_IOyx.permute(0, 2, 3, 1).contiguous()
