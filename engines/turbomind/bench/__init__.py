"""What the kernels reach on a GPU: `python -m engines.turbomind.bench.kernels`, `... .decode_step`."""
