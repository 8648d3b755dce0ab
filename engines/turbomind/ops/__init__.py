"""One launcher a kernel family, under the stem of its `.cu`: check, sizes, constants, grid, launch."""
