"""Checks and times cuts of the Hopper attention kernels.

    python -m engines.turbomind.bench.attention_variants [name ...]

A variant is first compared with the plain formula in fp32, on fresh random operands, small and full-sized;
one that is wrong says where. Then it is timed. Variants run in a process of their own, since an error of a
kernel spoils the process and a kernel may hang: the next variant starts in a new one.
"""

import os
import subprocess
import sys
import time
from queue import Empty, Queue
from threading import Thread

import torch

from engines.turbomind.bench.attention_checks import check_full, check_prefill
from engines.turbomind.bench.attention_runs import VARIANTS, compile_all, time_variant, torch_rows
from engines.turbomind.gpu import Gpu

_SILENT_SECONDS = 25.0  # without a word from a variant, it hangs
_TOTAL_SECONDS = float(os.environ.get("ATTENTION_SECONDS", "240"))


def main(chosen: list[str]) -> None:
    """Run the variants named, or all, then torch's own attention."""
    names = chosen or [*VARIANTS, "torch"]
    unknown = sorted(set(names) - {*VARIANTS, "torch"})
    if unknown:
        raise SystemExit(
            f"unknown variants {', '.join(unknown)}: there are {', '.join([*VARIANTS, 'torch'])}"
        )
    started = time.perf_counter()
    print(f"compiled {compile_all(names)} modules in {time.perf_counter() - started:.1f} s", flush=True)
    while names:
        if time.perf_counter() - started > _TOTAL_SECONDS:
            print(f"out of time; not run: {', '.join(names)}")
            return
        names = names[_run(names) :]


def _run(names: list[str]) -> int:
    """Run names in one process until one fails; return how many are done, the failed one included."""
    command = [sys.executable, "-m", "engines.turbomind.bench.attention_variants", "--child", *names]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: Queue[str] = Queue()
    Thread(target=_read, args=(child, lines), daemon=True).start()
    done, last_words = 0, ""
    try:
        while words := lines.get(timeout=_SILENT_SECONDS):
            if words.startswith("done "):
                done += 1
            elif words.startswith(("|", "!")):
                print(words.rstrip(), flush=True)
            else:
                last_words = words.strip() or last_words
    except Empty:
        last_words = f"no word for {_SILENT_SECONDS:.0f} s: it hangs"
    child.kill()
    child.wait()
    if done < len(names):
        print(f"! {names[done]:<28} failed: {last_words[:300]}", flush=True)
    return done + 1


def _read(child: subprocess.Popen[str], lines: Queue[str]) -> None:
    """Pass on what a process writes; an empty string is its end."""
    assert child.stdout is not None, "it was asked for"
    for line in child.stdout:
        lines.put(line)
    lines.put("")


def _child(names: list[str]) -> None:
    gpu = Gpu(torch.device("cuda"))
    for name in names:
        if name == "torch":
            for row in torch_rows():
                print(row, flush=True)
        else:
            variant = VARIANTS[name]
            faults = check_prefill(gpu, variant) if variant.prefill else check_full(gpu, variant)
            for fault in faults:
                print(f"! {name:<28} {fault}", flush=True)
            for row in time_variant(gpu, name):
                print(row + ("  WRONG" if faults else ""), flush=True)
        print(f"done {name}", flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        if sys.argv[1:2] == ["--child"]:
            _child(sys.argv[2:])
        else:
            main(sys.argv[1:])
