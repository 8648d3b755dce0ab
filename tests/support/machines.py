"""Machines as torch would tell of them."""

from dataclasses import replace

from deployer.config.devices import Gpu, Machine

CPU_BUILD = Machine(
    torch="2.13.0+cpu",
    cuda_build=None,
    gpus=(),
    kernels_error=None,
    num_npu=0,
    npu_error="ModuleNotFoundError: x",
)
NO_GPU = replace(CPU_BUILD, torch="2.13.0", cuda_build="13.0")
H200 = Gpu(name="NVIDIA H200", memory_bytes=140 * 2**30, capability=(9, 0))
TWO_HOPPERS = replace(NO_GPU, gpus=(H200, H200))
