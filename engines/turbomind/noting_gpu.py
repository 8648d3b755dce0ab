"""A GPU on which nothing runs, for a walk through a network with tensors that hold no numbers.

Its modules are noted as they are asked for (`kernel_survey.py`); the other ranks of a group and the one form
of torch's products that such tensors lack are stood in for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

from engines.parallel import TpGroup
from engines.turbomind.cubins import Constants, Module
from engines.turbomind.gpu import Gpu
from engines.turbomind.tensor_map import TensorView

META = torch.device("meta")


class NotingGpu(Gpu):
    """A GPU like another one on which nothing runs: modules that are asked for are noted."""

    def __init__(self, like: Gpu, wanted: Callable[[Module], None]) -> None:
        self.device = META
        self.arch = like.arch
        self.capability = like.capability
        self.num_sms = like.num_sms
        self.shared_bytes_per_block = like.shared_bytes_per_block
        self.shared_bytes_per_sm = like.shared_bytes_per_sm
        self.plans = {}
        self._wanted = wanted
        self._noted: set[Module] = set()

    def stream(self) -> int:
        """Return no stream."""
        return 0

    def kernel(
        self,
        file: str,
        entry: str,
        constants: Constants,
        arguments: str,
        *,
        threads: int,
        shared_bytes: int = 0,
        in_order: bool = False,
    ) -> Any:
        """Note the module and return what launches nothing."""
        if (file, constants) not in self._noted:
            self._noted.add((file, constants))
            self._wanted((file, constants))
        return _launch_nothing

    def scratch(self, name: str, num_bytes: int) -> Tensor:
        """Return memory that is not there."""
        return torch.empty(num_bytes, dtype=torch.uint8, device=META)

    def tensor_map(self, view: TensorView) -> bytes:
        """Return a map of nothing."""
        return b""


@dataclass(kw_only=True, slots=True)
class AloneInGroup(TpGroup):
    """A rank of a group whose others have nothing to say."""

    def all_reduce(self, x: Tensor) -> Tensor:
        """Return x."""
        return x

    def all_gather(self, x: Tensor) -> Tensor:
        """Return x as often as there are ranks."""
        return torch.cat([x] * self.size, dim=-1)


@contextmanager
def scaled_products_of_nothing() -> Iterator[None]:
    """Give torch, meanwhile, the form of `_scaled_mm` that it lacks for tensors without numbers."""
    library = Library("aten", "IMPL")  # type: ignore[no-untyped-call]  # torch's stubs
    library.impl("_scaled_mm.out", lambda *_, out, **__: out, "Meta")  # type: ignore[no-untyped-call]  # too
    try:
        yield
    finally:
        del library  # and what it gave


def _launch_nothing(*arguments: object) -> None:
    pass
