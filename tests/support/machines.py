"""Machines as torch would tell of them."""

from dataclasses import replace

from deployer.config.devices import Machine

CPU_BUILD = Machine(
    torch="2.13.0+cpu",
    cuda_build=None,
    num_cuda=0,
    capabilities=(),
    kernels_error=None,
    num_npu=0,
    npu_error="ModuleNotFoundError: x",
)
NO_GPU = replace(CPU_BUILD, torch="2.13.0", cuda_build="13.0")
TWO_HOPPERS = replace(NO_GPU, num_cuda=2, capabilities=((9, 0), (9, 0)))
