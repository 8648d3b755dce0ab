"""Every kernel that a deployment can ask for compiled before it serves, by a process on each processor.

Asking which ones these are (`kernel_survey.py`) takes a second or two, so the answer is kept beside the
cubins, by all that it follows from: a start that finds it, and every cubin it names, does nothing here.
"""

import hashlib
import itertools
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Self

import torch

import engines
from engines.options import EngineOptions
from engines.turbomind import compile_worker
from engines.turbomind.cubins import Cubins, Module
from engines.turbomind.gpu import Gpu
from engines.turbomind.kernel_source import kernel_dir
from engines.turbomind.kernel_survey import survey
from engines.turbomind.nvrtc import nvrtc_version
from engines.vision.vlm import Vlm

MOST_WORKERS = 16  # of some fifty modules each then has three; a process takes 120 MB

_log = logging.getLogger(__name__)

Ask = Callable[[Callable[[Module], None]], None]  # calls its argument with every module that is wanted


def compile_ahead(gpu: Gpu, network: Vlm, options: EngineOptions, *, dtype: torch.dtype) -> None:
    """Have the cubins of all kernels that this rank can ask for on disk. Raises KernelError.

    A model whose steps cannot be walked through without numbers is reported: its kernels are compiled when
    they are first asked for.
    """
    # Which weights have a copy in fewer bits follows from their numbers and the GPU's memory.
    shapes = sorted((name, tuple(x.shape), x.dtype) for name, x in network.outline.items())
    facts = (gpu.num_sms, gpu.shared_bytes_per_block, gpu.shared_bytes_per_sm, str(dtype), options)

    def ask(wanted: Callable[[Module], None]) -> None:
        survey(network.outline, network.spec, options, gpu, dtype=dtype, wanted=wanted)

    compile_asked(
        gpu.cubins,
        ask,
        num_workers=worker_count(len(os.sched_getaffinity(0)), ranks=options.tp),
        follows_from=repr((network.spec, facts, shapes)),
    )


def worker_count(num_cpus: int, *, ranks: int) -> int:
    """Return how many processes compile for a rank: its share of the processors, not more than are of use."""
    return max(1, min(num_cpus // ranks, MOST_WORKERS))


def compile_asked(cubins: Cubins, ask: Ask, *, num_workers: int, follows_from: str) -> None:
    """Compile what `ask` wants, unless an earlier call has and all of it is still there."""
    answer = f"{cubins.arch} nvrtc {nvrtc_version()} {_state_of_sources()} {follows_from}"
    key = hashlib.sha256(answer.encode()).hexdigest()
    if cubins.cache.has_all(key):
        return
    started = time.perf_counter()
    modules: list[Module] = []
    with Workers(cubins, num_workers) as workers:

        def wanted(module: Module) -> None:
            modules.append(module)
            workers.compile(module)

        try:
            ask(wanted)
        except RuntimeError as error:  # what torch says of tensors without numbers
            _log.warning("some kernels of this model will be compiled when they are first used: %s", error)
            return
    for module in modules:
        cubins.get(module)
    cubins.cache.keep_names(key, [(Path(module[0]).stem, cubins.key(module)) for module in modules])
    _log.info("%d kernels compiled ahead in %.1f s", len(modules), time.perf_counter() - started)


def compile_all(cubins: Cubins, modules: Collection[Module]) -> None:
    """Have these modules on disk, compiled by all processors. Raises KernelError where one cannot be."""
    with Workers(cubins, worker_count(len(os.sched_getaffinity(0)), ranks=1)) as workers:
        for module in modules:
            workers.compile(module)
    for module in modules:
        cubins.get(module)


class Workers:
    """Processes that compile beside this one; none where nothing can be kept for anybody else."""

    def __init__(self, cubins: Cubins, number: int) -> None:
        self._cubins = cubins
        self._processes: list[subprocess.Popen[str]] = []
        self._turn = itertools.cycle(range(number))
        if number > 1 and cubins.cache.can_keep():
            command = [sys.executable, "-m", compile_worker.__name__, cubins.arch, str(cubins.cache.folder)]
            self._processes = [
                subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(number)
            ]

    def __enter__(self) -> Self:
        return self

    def compile(self, module: Module) -> None:
        """Have the next process compile a module that is not there; a dead process compiles nothing."""
        if not self._processes or self._cubins.has(module):
            return
        pipe = self._processes[next(self._turn)].stdin
        assert pipe is not None, "asked for above"
        with suppress(BrokenPipeError):
            pipe.write(compile_worker.line_of(module))
            pipe.flush()

    def __exit__(self, *exception: object) -> None:
        """Wait until all are done."""
        for process in self._processes:
            with suppress(BrokenPipeError):
                process.communicate()


def _state_of_sources() -> str:
    """Return what changes with any file that has a say in which kernels are asked for."""
    folders = (Path(engines.__file__).parent, kernel_dir())
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.suffix in _SOURCES)
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        digest.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


_SOURCES = {".py", ".cu", ".cuh"}
