"""A process that compiles modules into the cache: `python -m engines.turbomind.compile_worker ARCH FOLDER`.

A module a line of standard input, as JSON. NVRTC takes one program at a time in a process, so several
processes compile (`compile_ahead.py`). What one of them cannot do, whoever needs the module does and says
why, so nothing is said here. Torch-free.
"""

import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from engines.errors import KernelError
from engines.turbomind.cubin_cache import CubinCache
from engines.turbomind.cubins import Cubins, Module


def line_of(module: Module) -> str:
    """Return a module as a worker reads it."""
    return json.dumps(module) + "\n"


def compile_lines(lines: Iterable[str], arch: str, folder: Path) -> int:
    """Compile what the lines name; return how many of them did not compile."""
    cubins, failed = Cubins(arch, CubinCache(folder)), 0
    for line in lines:
        file, constants = json.loads(line)
        try:
            cubins.get((file, tuple((name, value) for name, value in constants)))
        except KernelError:
            failed += 1
    return failed


if __name__ == "__main__":
    logging.disable()
    compile_lines(sys.stdin, sys.argv[1], Path(sys.argv[2]))
