"""The layers between two attentions in fewer kernels than one a layer and norm: which way takes which."""

from torch import Tensor

from engines.ops import BetweenAttentions
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import linear_chain_int4, linear_chain_int4_hopper
from engines.turbomind.ops.folded_layers import folded_layers, folds


def layer_products(
    gpu: Gpu, attended_TA: Tensor, residual_TH: Tensor, between: BetweenAttentions
) -> tuple[Tensor, Tensor] | None:
    """Return (qkv of the next layer [T, X], the residual that its norm saw [T, H]), or None: layers apart.

    Up to 64 rows of 4-bit layers go through all of it in one kernel where sizes allow; else norms of some
    rows are parts of products.
    """
    num_rows, dtype = len(attended_TA), attended_TA.dtype
    if linear_chain_int4.takes(gpu, num_rows, dtype, between):
        return linear_chain_int4.linear_chain_int4(gpu, attended_TA, residual_TH, between)
    if linear_chain_int4_hopper.takes(gpu, num_rows, dtype, between):
        return linear_chain_int4_hopper.linear_chain_int4_hopper(gpu, attended_TA, residual_TH, between)
    if folds(gpu, num_rows, dtype, between):
        return folded_layers(gpu, attended_TA, residual_TH, between)
    return None
