"""What glibc's malloc does with memory that was freed, told once at the start of a process.

An engine on the CPU (`engines/backends.py`) keeps it between steps, a server (`deployer/serve/run.py`) in few
places.
"""

import ctypes

SERVER_ARENAS = 2

# Of glibc's malloc.h. 32 MiB is the largest threshold it takes on 64-bit machines.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
M_ARENA_MAX = -8
KEPT_BYTES = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 1 << 30, M_TOP_PAD: 64 << 20}


def keep_freed_memory() -> bool:
    """Tell malloc to keep what is freed; return whether this C library can be told.

    The temporaries of a step are megabytes. By default glibc returns them to the kernel, and the page
    faults of the next step cost more than its arithmetic: a step that decodes 8 sequences of 400 tokens takes
    28 ms of CPU time, 10.5 with memory kept; of 1500 tokens 73 and 24 (13 M parameters, fp32, AMD EPYC).
    """
    return _told(KEPT_BYTES)


def share_arenas() -> bool:
    """Tell malloc to serve all threads from two arenas; return whether this C library can be told.

    By default glibc opens up to 8 arenas a core, and what is freed in one serves no other. The threads of a
    server take pictures and prompts in turn, so that each arena grows to the most that was ever held in it:
    docs/load_and_faults.md has the figures.
    NOTE: glibc reads the number when it opens the second arena: call this before the first thread.
    """
    return _told({M_ARENA_MAX: SERVER_ARENAS})


def _told(options: dict[int, int]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, value) for name, value in options.items())
