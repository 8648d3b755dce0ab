"""How long commands take that need no torch: `python tests/support/explain_time.py [runs]` prints a table.

Each run is a process of its own, from its start to its exit, as a user waits for it; the first is left out.
"""

import os
import statistics
import subprocess
import sys
import time

COMMANDS = (
    ("--help",),
    ("list", "models"),
    ("explain", "+model=internvl2_8b"),
    ("plan", "+model=internvl2_8b"),
)
RUN = (sys.executable, "-c", "import sys; from deployer.cli import main; sys.exit(main())")


def seconds_of(words: tuple[str, ...]) -> float:
    begun = time.perf_counter()
    subprocess.run((*RUN, *words), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    print(
        f"python {sys.version.split()[0]}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {runs} runs"
    )
    print(f"{'command':36} {'median s':>9} {'least':>7} {'most':>7}")
    for words in COMMANDS:
        seconds_of(words)
        found = sorted(seconds_of(words) for _ in range(runs))
        name = " ".join(("deploy", *words))
        print(f"{name:36} {statistics.median(found):9.2f} {found[0]:7.2f} {found[-1]:7.2f}")


if __name__ == "__main__":
    main()
