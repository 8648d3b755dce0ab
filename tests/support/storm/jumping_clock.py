"""`deploy` under a wall clock that jumps: `python -m storm.jumping_clock FILE WORDS...`.

`time.time` is moved by as many seconds as FILE says at the moment; the monotonic clock is not, as on a
machine whose clock is set.
"""

import sys
import time
from pathlib import Path


def main(offset: Path, words: list[str]) -> int:
    """Run `deploy` with these words."""
    real = time.time
    time.time = lambda: real() + float(offset.read_text() or 0)
    from deployer.cli import main as deploy

    return deploy(words)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
