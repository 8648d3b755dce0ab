"""Prints the tables of docs/load_and_faults.md.

    PYTHONPATH=tests/support python -m storm [SCENARIO ...] [--clients N] [--requests N] [--minutes M] \
        [--output-tokens N] [--admitted N] [-- WORDS of deploy, default +model=pocket_vl]
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator

from deployer.bench.machine import machine
from deployer.table import print_table
from storm import faults
from storm.latency import latency
from storm.load import Storm, long_load
from storm.mixed import mixed
from storm.overload import overload

Scenario = Callable[[Storm], Coroutine[None, None, Iterator[tuple[str, str]]]]
SCENARIOS: dict[str, Scenario] = {
    "load": long_load,
    "mixed": mixed,
    "overload": overload,
    "latency": latency,
    "engine-killed": faults.engine_killed,
    "worker-killed": faults.worker_killed,
    "clients-gone": faults.clients_gone,
    "disk-full": faults.disk_full,
    "clock-jumped": faults.clock_jumped,
    "drained": faults.drained,
}


def main(words: list[str]) -> int:
    """Run the scenarios named, or all."""
    parser = argparse.ArgumentParser(prog="python -m storm")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--output-tokens", type=int, default=16)
    parser.add_argument("--admitted", type=int, default=16, help="at once, in the overload")
    own, deploy = _parted(words)
    asked = parser.parse_args(own)
    unknown = [name for name in asked.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario `{unknown[0]}`; there are {', '.join(SCENARIOS)}")
    storm = Storm(
        words=tuple(deploy) or ("+model=pocket_vl",),
        clients=asked.clients,
        requests=asked.requests,
        minutes=asked.minutes,
        output_tokens=asked.output_tokens,
        admitted=asked.admitted,
    )
    for name, value in machine().items():
        print(f"{name:10} {value}")
    print(f"{'server':10} deploy {' '.join(storm.words)}\n", flush=True)
    for name in asked.scenarios or SCENARIOS:
        rows = asyncio.run(SCENARIOS[name](storm))
        print_table(("scenario", "figure", "value"), [[name, *row] for row in rows], out=sys.stdout)
        print(flush=True)
    return 0


def _parted(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words before and after `--`."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
