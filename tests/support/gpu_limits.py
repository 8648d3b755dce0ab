"""Architectures that kernels are compiled for, and what bounds a block there."""

# Shared memory of a block and of an SM, bytes: CUDA C++ Programming Guide 13.0, compute capabilities.
SHARED = {
    "sm_75": (65536, 65536),
    "sm_80": (166912, 167936),
    "sm_86": (101376, 102400),
    "sm_89": (101376, 102400),
    "sm_90a": (232448, 233472),
}
ARCHITECTURES = sorted(SHARED)


def matrix_scalar(arch: str) -> str:
    return "fp16" if arch == "sm_75" else "bf16"
