"""A GPU's context, opened by a thread while torch is imported: both take a part of a second and wait for no
one else. torch then finds the primary context that it would have made. Torch-free.
"""

import threading
from contextlib import suppress


def open_context_early(device: str, *, rank: int) -> threading.Thread | None:
    """Start to open the context that a rank will work in and return the thread; None: there is none to open.

    Nothing is raised: whatever a device lacks is told by who opens it for good (`engines/backends.py`).
    """
    if device != "cuda":
        return None
    thread = threading.Thread(target=_open, args=(rank,), name="context", daemon=True)
    thread.start()
    return thread


def _open(ordinal: int) -> None:
    with suppress(ImportError, RuntimeError):  # no bindings, no driver
        from cuda.bindings import driver

        driver.cuInit(0)
        fault, device = driver.cuDeviceGet(ordinal)
        if fault == driver.CUresult.CUDA_SUCCESS:
            driver.cuDevicePrimaryCtxRetain(device)
