"""python -m deployer.sweeps.child VERB WORDS...: one command of `deploy` that ends with the process above it.

A point of a sweep runs in a process group of its own, so that a Ctrl-C on the terminal reaches the sweep
alone, which then ends its points in order.
"""

import ctypes
import os
import signal
import sys

from deployer.cli import main

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with(parent: int) -> None:
    """Have the kernel interrupt this process when its parent dies, however that comes about."""
    # A shell without job control starts background work with SIGINT ignored, and that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGINT) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died before the kernel was asked
        sys.exit(1)


if __name__ == "__main__":
    end_with(int(os.environ["DEPLOY_SWEEP_PID"]))
    sys.exit(main(sys.argv[1:]))
