"""Memory of one GPU that other processes of the host write into (CUDA IPC), kept until the process ends."""

from typing import Any

from engines.errors import KernelError


def allocate_shared(num_bytes: int) -> int:
    """Return the address of zeroed memory on the current GPU."""
    driver = _driver()
    address = _value(driver.cuMemAlloc(num_bytes), f"allocate {num_bytes} bytes")
    _value(driver.cuMemsetD8(address, 0, num_bytes), "clear them")
    _value(driver.cuCtxSynchronize(), "clear them")
    return int(address)


def handle_of(address: int) -> bytes:
    """Return what another process opens the memory with."""
    driver = _driver()
    handle = _value(driver.cuIpcGetMemHandle(driver.CUdeviceptr(address)), "share them")
    return bytes(handle.reserved)


def open_shared(handle: bytes) -> int:
    """Return the address at which this process sees another's memory."""
    driver = _driver()
    opened = driver.CUipcMemHandle()
    opened.reserved = handle
    flags = driver.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
    return int(_value(driver.cuIpcOpenMemHandle(opened, flags), "open the memory of another process"))


def _driver() -> Any:
    from cuda.bindings import driver

    return driver


def _value(result: tuple[Any, ...], action: str) -> Any:
    status, *values = result
    if status.value != 0:
        raise KernelError(f"the CUDA driver could not {action}: {status.name}")
    return values[0] if values else None
