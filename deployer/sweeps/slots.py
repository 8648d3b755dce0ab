"""The GPUs that points are measured on, each by one point at a time; without any, one point at a time."""

import os
from collections.abc import Mapping

from deployer.errors import UnavailableError
from deployer.sweeps.options import SweepOptions


class Slots:
    """Free and taken GPUs. A point on the CPU takes the machine: beside another its times mean nothing."""

    def __init__(self, devices: list[int]) -> None:
        self._free = sorted(devices)
        self._num = len(devices)
        self._cpu_is_taken = False

    @property
    def any_free(self) -> bool:
        """Tell whether some point could start now."""
        return not self._cpu_is_taken and bool(self._free or not self._num)

    def take(self, num_devices: int) -> list[int] | None:
        """Take so many GPUs, or for 0 the CPU; None where they are not free yet."""
        if num_devices == 0:
            if self._cpu_is_taken or len(self._free) < self._num:
                return None
            self._cpu_is_taken = True
            return []
        if self._cpu_is_taken or len(self._free) < num_devices:
            return None
        taken, self._free = self._free[:num_devices], self._free[num_devices:]
        return taken

    def give_back(self, devices: list[int]) -> None:
        """Free what `take` gave."""
        if not devices:
            self._cpu_is_taken = False
        self._free = sorted([*self._free, *devices])


def gpus_to_use(
    options: SweepOptions, num_gpus: int, environment: Mapping[str, str] = os.environ
) -> list[int]:
    """Return the GPUs as CUDA_VISIBLE_DEVICES numbers them; none on a machine without.

    `num_gpus`: how many torch sees. Raises UnavailableError for one that is not there.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else []
    if any(not name.strip().isdecimal() for name in names):
        raise UnavailableError(
            f"CUDA_VISIBLE_DEVICES={visible}: a sweep hands GPUs out by number; set it to numbers, as 0,1"
        )
    here = [int(name) for name in names][:num_gpus] if names else list(range(num_gpus))
    if options.devices is None:
        return here
    missing = [number for number in options.devices if number not in here]
    if missing:
        known = f"{len(here)} here: {here}" if here else "none is here"
        raise UnavailableError(f"sweep.devices={options.devices}: no GPU {missing}; {known}")
    return list(options.devices)
