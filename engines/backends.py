"""Which op table an engine kind runs on which device: a registry, and what the device must be for it.

An engine's modules are imported when it is asked for, so nobody pays for one that does not run. One that
cannot run here says why; none is ever replaced by another.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from engines.devices import DEVICES, compute_dtype
from engines.errors import DeviceError
from engines.hooks import Hooks
from engines.ops import Ops
from engines.options import EngineOptions
from engines.parallel import TpGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """Where and with what one rank computes."""

    device: torch.device
    dtype: torch.dtype
    ops: Ops
    hooks: Hooks
    group: TpGroup
    copied_layers: frozenset[str] = frozenset()  # whose weights the loader keeps a second time


def open_backend(options: EngineOptions, checkpoint_dtype: str, *, rank: int = 0) -> Backend:
    """Return a rank's device, the compute dtype and the op table; raises DeviceError with what is missing."""
    if options.device == "auto" or options.kind == "auto":
        raise DeviceError(
            f"engine.kind={options.kind}, engine.device_type={options.device}: `auto` is resolved before an "
            "engine starts"
        )
    device = DEVICES[options.device](rank)
    dtype = compute_dtype(options.dtype, checkpoint_dtype, device)
    ops, hooks = ENGINES[options.kind](device)
    return Backend(
        device=device, dtype=dtype, ops=ops, hooks=hooks, group=TpGroup(rank=rank, size=options.tp)
    )


def _pytorch(device: torch.device) -> tuple[Ops, Hooks]:
    from engines.pytorch.ops_torch import TorchOps

    return TorchOps(), Hooks()


def _turbomind(device: torch.device) -> tuple[Ops, Hooks]:
    try:
        from engines.turbomind.gpu import Gpu
        from engines.turbomind.hooks import HOOKS
        from engines.turbomind.ops_table import TurbomindOps
    except ImportError as error:
        raise DeviceError(
            f"engine=turbomind does not import ({error}); pip install 'vlm-deployer[cuda]' or use "
            "engine=pytorch"
        ) from error
    return TurbomindOps(Gpu(device)), HOOKS


ENGINES: Mapping[str, Callable[[torch.device], tuple[Ops, Hooks]]] = {
    "pytorch": _pytorch,
    "turbomind": _turbomind,
}
