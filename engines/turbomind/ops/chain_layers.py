"""What the kernels of all 4-bit layers between two attentions, `linear_chain_int4*.py`, ask of these layers.

Legend: A attended, H hidden.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from engines.ops import BetweenAttentions, Int4
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.operands import check
from engines.turbomind.ops.int4_operands import layer_operands


class ChainSizes(NamedTuple):
    """Inputs and outputs of the four layers, and the inputs under one scale."""

    hidden: int
    attended: int
    ffn: int
    qkv: int
    group_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainShape:
    """What both kernels are cut by: inputs and outputs of layers, stages of codes, blocks, shared memory."""

    hidden: int
    attended: int
    ffn: int
    qkv: int
    stages: int
    num_blocks: int
    shared_bytes: int

    def layer_constants(self) -> Constants:
        """Return the sizes of the layers as a kernel is compiled with them."""
        return (("HIDDEN", self.hidden), ("ATTENDED", self.attended), ("FFN", self.ffn), ("QKV", self.qkv))


def chain_layers(between: BetweenAttentions) -> list[Int4]:
    """Return those of the four layers that have 4-bit codes in the order of their inputs."""
    weights = (between.o, between.gate_up, between.down, between.qkv)
    return [weight for weight in weights if isinstance(weight, Int4) and weight.perm_I is None]


def chain_sizes(between: BetweenAttentions) -> ChainSizes | None:
    """Return the sizes of four layers that follow each other, or None where these are not such."""
    layers = chain_layers(between)
    if len(layers) < 4 or len({layer.group_size for layer in layers}) > 1:
        return None
    size = layers[0].group_size
    sizes = [(layer.scales_GO.shape[1], layer.scales_GO.shape[0] * size) for layer in layers]
    (hidden, attended), (gates, hidden_in), (hidden_out, ffn), (outputs, last_in) = sizes
    if len({hidden, hidden_in, hidden_out, last_in}) > 1 or gates != 2 * ffn:
        return None
    return ChainSizes(hidden=hidden, attended=attended, ffn=ffn, qkv=outputs, group_size=size)


def bias_address(layer: Int4) -> int:
    """Return where the bias lies, 0 where there is none."""
    return 0 if layer.bias_O is None else layer.bias_O.data_ptr()


def check_chain(
    gpu: Gpu, kernel: str, attended_TA: Tensor, residual_TH: Tensor, between: BetweenAttentions
) -> None:
    """Hold the operands of a kernel to the layers' sizes. Raises KernelError by the operand's name."""
    layers, dtype, num_rows = chain_layers(between), attended_TA.dtype, len(attended_TA)
    groups, hidden = layers[0].scales_GO.shape
    check(
        gpu,
        kernel,
        attended=(attended_TA, dtype, (num_rows, groups * layers[0].group_size)),
        residual=(residual_TH, dtype, (num_rows, hidden)),
        ffn_norm=(between.ffn_norm_H, dtype, (hidden,)),
        norm=(between.norm_H, dtype, (hidden,)),
    )
    for layer in layers:
        check(gpu, kernel, **layer_operands(layer, dtype))
