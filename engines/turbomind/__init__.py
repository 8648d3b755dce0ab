"""The CUDA engine: the op table whose functions are kernels of `kernels/`, compiled at run time."""
