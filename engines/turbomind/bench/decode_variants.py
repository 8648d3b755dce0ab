"""Op tables that `decode_step.py` compares: what the engine runs, and it with other linear layers."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from engines.ops import BetweenAttentions, Dense, KvLayer, Ops, Weight
from engines.parallel import TpGroup
from engines.pytorch.linear import linear as torch_linear
from engines.steps.step import AttentionBatch
from engines.turbomind.bench.linear_operands import LayerKind, make_layer
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import linear_hopper
from engines.turbomind.ops.linear import linear
from engines.turbomind.ops_table import TurbomindOps

_MOST_OUTPUTS = 60_000  # of a layer that is quantized: the head is not


class CublasLinears(TurbomindOps):
    """The table with cuBLASLt for every linear layer."""

    def linear(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Return x @ W.T + b."""
        return torch_linear(x_TI, weight)


class HopperLinears(TurbomindOps):
    """The table with `linear_hopper` for every linear layer that it takes."""

    def linear(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Return x @ W.T + b."""
        num_rows = x_TI.numel() // x_TI.shape[-1]
        if isinstance(weight, Dense) and linear_hopper.fits(self.gpu, num_rows, x_TI.dtype, weight):
            return linear_hopper.linear_dense(self.gpu, x_TI, weight)
        return torch_linear(x_TI, weight)


class StoredFirst(TurbomindOps):
    """The table with a kernel of its own that rotates and stores, before attention."""

    def rope_store_attend(
        self,
        q_TND: Tensor,
        k_TKD: Tensor,
        v_TKD: Tensor,
        cos_TR: Tensor,
        sin_TR: Tensor,
        layer: KvLayer,
        batch: AttentionBatch,
        *,
        scale: float,
        window: int | None,
    ) -> Tensor:
        """Rotate and write, then attend."""
        q_TND = self.rope_store_kv(q_TND, k_TKD, v_TKD, cos_TR, sin_TR, layer, batch.slots_T)
        return self.attention_paged(q_TND, layer, batch, scale=scale, window=window)


@dataclass(frozen=True, slots=True)
class OtherLinears(TurbomindOps):
    """The table with random layers of a kind in place of the dense ones, and rings of a size of their own."""

    kind: LayerKind
    linear_gpu: Gpu
    layers: dict[int, Weight] = field(default_factory=dict)  # by the address of the dense one

    def linear(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Return x @ W.T + b."""
        return linear(self.linear_gpu, x_TI, self._taken(weight))

    def silu_mul_linear(self, gate_up_T2F: Tensor, weight: Weight) -> Tensor:
        """Return linear(silu_mul(gate_up), weight)."""
        return TurbomindOps.silu_mul_linear(self, gate_up_T2F, self._taken(weight))

    def add_rms_norm_linear(
        self,
        x_TH: Tensor,
        residual_TH: Tensor,
        norm_H: Tensor,
        eps: float,
        weight: Weight,
        group: TpGroup | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (linear(rms_norm(x + residual)), x + residual)."""
        weight = self._taken(weight)
        return TurbomindOps.add_rms_norm_linear(self, x_TH, residual_TH, norm_H, eps, weight, group)

    def add_rms_norm_ffn(
        self,
        x_TH: Tensor,
        residual_TH: Tensor,
        norm_H: Tensor,
        eps: float,
        gate_up: Weight,
        down: Weight,
        group: TpGroup | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (down(silu_mul(gate_up(rms_norm(x + residual)))), x + residual)."""
        weights = self._taken(gate_up), self._taken(down)
        return TurbomindOps.add_rms_norm_ffn(self, x_TH, residual_TH, norm_H, eps, *weights, group)

    def layer_products(
        self, attended_TA: Tensor, residual_TH: Tensor, between: BetweenAttentions
    ) -> tuple[Tensor, Tensor]:
        """Return (qkv of the next layer, the residual that its norm saw)."""
        taken = replace(
            between,
            o=self._taken(between.o),
            gate_up=self._taken(between.gate_up),
            down=self._taken(between.down),
            qkv=self._taken(between.qkv),
        )
        return TurbomindOps.layer_products(self, attended_TA, residual_TH, taken)

    def _taken(self, weight: Weight) -> Weight:
        """Return the layer in place of a dense one; any other is in place already."""
        if (
            not isinstance(weight, Dense)
            or self.kind == "dense"
            or weight.weight_OI.shape[0] >= _MOST_OUTPUTS
        ):
            return weight
        key = weight.weight_OI.data_ptr()
        if key not in self.layers:
            self.layers[key] = make_layer(self.kind, *weight.weight_OI.shape)
        return self.layers[key]


def _half_rings(device: torch.device) -> Gpu:
    """Return the GPU with half its shared memory: two blocks of linear layers fit beside each other."""
    gpu = Gpu(device)
    gpu.shared_bytes_per_block = gpu.shared_bytes_per_sm // 2 - 1024
    return gpu


def _other(kind: LayerKind, *, half: bool) -> Callable[[torch.device], Ops]:
    return lambda device: OtherLinears(Gpu(device), kind, _half_rings(device) if half else Gpu(device))


VARIANTS: dict[str, Callable[[torch.device], Ops]] = {
    "engine": lambda device: TurbomindOps(Gpu(device)),
    "no-overlap": lambda device: TurbomindOps(Gpu(device, overlap_launches=False)),
    "cublas": lambda device: CublasLinears(Gpu(device)),
    "hopper": lambda device: HopperLinears(Gpu(device)),
    "stored-first": lambda device: StoredFirst(Gpu(device)),
    "half-rings": _other("dense", half=True),
    "int4": _other("nibble", half=False),
    "int4-half-rings": _other("nibble", half=True),
    "fp8": _other("e4m3", half=False),
    "fp8-half-rings": _other("e4m3", half=True),
    "fp7": _other("fp7", half=False),
    "int8": _other("int8", half=False),
}
