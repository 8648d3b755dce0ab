"""How long `deploy explain`, `plan` and others take, import to exit: `tests/benchmarks/explain.py [runs]`.

Each run is a process of its own. Prints the least and the median in ms; a first run warms the disk cache.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from deployer.table import print_table

RUN = "import sys; from deployer.cli import main; sys.exit(main())"
COMMANDS = (
    ["explain", "+model=internvl2_8b"],
    ["explain", "engine.tp", "+model=internvl2_8b", "engine=turbomind", "engine.tp=2"],
    ["plan", "+model=internvl2_8b"],
    ["list", "models"],
    ["completion", "query", "deploy engine="],
    ["--help"],
)


def run_ms(words: Sequence[str]) -> float:
    """Return the wall time of one command."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", RUN, *words], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Time every command."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rows = []
    for words in COMMANDS:
        run_ms(words)
        times = [run_ms(words) for _ in range(runs)]
        rows.append(
            [f"deploy {' '.join(words)}", str(runs), f"{min(times):.0f}", f"{statistics.median(times):.0f}"]
        )
    print_table(["command", "runs", "min ms", "median ms"], rows, out=sys.stdout)


if __name__ == "__main__":
    main()
