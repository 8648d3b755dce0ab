"""Where log lines go: standard error, one line each, time first; standard output is for what was asked."""

import logging
import sys
import time


def set_up_logs(level: str, *, process: int | None = None) -> None:
    """Send our own and uvicorn's messages to standard error.

    `process`: which of `server.processes` this is; its lines say so. None: it is the server itself.
    """
    handler = logging.StreamHandler(sys.stderr)
    who = "" if process is None else f"process={process} "
    formatter = logging.Formatter(
        f"%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s {who}%(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("deployer", "engines"):
        logging.getLogger(name).setLevel(level.upper())
    # uvicorn tells of every start and stop at info; what matters of that, `run.py` says itself.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
