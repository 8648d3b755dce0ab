"""Processes that decode and cut pictures and videos beside the server (`vision.preprocess_workers`).

A worker that dies is replaced, and its job is tried once more by another: a process may be killed for reasons
that are not the picture's. Files of a job are unlinked as soon as they are mapped.
"""

import asyncio
import itertools
import os
import queue
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployer.config.schema import VisionConfig
from deployer.prompt.media import refused
from deployer.prompt.pixel_job import PixelJob, PixelReply, PixelSetup
from deployer.prompt.pixel_process import PixelWorker, WorkerDiedError, WorkerLateError
from deployer.prompt.video_clock import took_too_long
from engines.errors import RequestError
from engines.ipc.owned_folder import OwnedFolder, sweep
from engines.ipc.pixel_files import SHARED_MEMORY
from engines.spec import VisionSpec

PREFIX = "vlm-decoded-"
ATTEMPTS = 2
LATE_S = 10.0  # beyond the time that a video may take: FFmpeg never returned from one of its frames


@dataclass(kw_only=True, slots=True)
class PoolFigures:
    """What /metrics says of a pool."""

    num_workers: int
    num_busy: int = 0
    num_waiting: int = 0
    num_done: int = 0
    num_restarts: int = 0
    busy_s: float = 0.0


class PixelPool:
    """The workers of one deployment. Invariant: 0 <= num_busy <= num_workers."""

    def __init__(self, vision: VisionSpec, config: VisionConfig, *, uncut_pixels: int = 0) -> None:
        self._setup = PixelSetup(vision=vision, config=config, uncut_pixels=uncut_pixels)
        count = config.preprocess_workers
        self.figures = PoolFigures(num_workers=count)
        self._folder = OwnedFolder(_root(), PREFIX)
        self._names = itertools.count()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="pixels")
        self._lock = threading.Lock()  # of `figures`
        self._closed = False
        self._workers: set[PixelWorker] = set()  # that live, busy ones too
        self._idle: queue.SimpleQueue[PixelWorker | None] = queue.SimpleQueue()  # None: not started yet
        for _ in range(count):
            self._idle.put(None)

    def start(self) -> None:
        """Start every process now, so that the first picture does not wait for one."""
        taken = [self._idle.get() for _ in range(self.figures.num_workers)]
        for worker in taken:
            self._idle.put(worker or self._started())

    async def run(self, job: PixelJob) -> tuple[PixelReply, tuple[NDArray[np.uint8], ...]]:
        """Return what a worker says of a job, and the arrays of all its pictures in their order.

        Raises ImageError and VideoError, or RequestError at the end of the server.
        """
        with self._lock:
            self.figures.num_waiting += 1
        future = self._threads.submit(self._run, job)
        future.add_done_callback(self._forget_cancelled)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the processes; jobs that wait are cancelled, those that run fail."""
        self._closed = True
        for worker in tuple(self._workers):
            worker.process.terminate()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in tuple(self._workers):
            worker.close()
        self._folder.close()

    def _forget_cancelled(self, future: Future[Any]) -> None:
        """Uncount a job whose request went away before a worker was free."""
        if future.cancelled():
            with self._lock:
                self.figures.num_waiting -= 1

    def _run(self, job: PixelJob) -> tuple[PixelReply, tuple[NDArray[np.uint8], ...]]:
        """Give a job to a worker that is free. Raises ImageError or VideoError where it cannot be done."""
        worker = self._idle.get()
        begun_s = time.perf_counter()
        with self._lock:
            self.figures.num_waiting -= 1
            self.figures.num_busy += 1
        path = self._folder.path / str(next(self._names))
        try:
            for _ in range(ATTEMPTS):
                worker = worker or self._started()
                try:
                    reply = worker.ask(job, str(path), limit_s=self._limit_s(job))
                except (WorkerDiedError, WorkerLateError) as error:
                    self._bury(worker, path)
                    worker = None
                    if isinstance(error, WorkerLateError):
                        raise took_too_long(self._setup.config.video_timeout_s, index=job.index) from error
                else:
                    return reply, _arrays(reply, job, path)
        finally:
            self._idle.put(worker)
            with self._lock:
                self.figures.num_busy -= 1
                self.figures.num_done += 1
                self.figures.busy_s += time.perf_counter() - begun_s
        raise refused(
            job.medium,
            f"{ATTEMPTS} processes died while they decoded it",
            fault="unreadable",
            index=job.index,
        )

    def _limit_s(self, job: PixelJob) -> float | None:
        """Return how long a job may take: a worker that sees its own clock ends a video before."""
        return self._setup.config.video_timeout_s + LATE_S if job.medium == "video" else None

    def _started(self) -> PixelWorker:
        worker = PixelWorker(self._setup)
        self._workers.add(worker)
        return worker

    def _bury(self, worker: PixelWorker, path: Path) -> None:
        """Count a death and remove what the worker may have written; the next job starts another."""
        worker.close()
        self._workers.discard(worker)
        for written in self._folder.path.glob(f"{path.name}-*"):
            written.unlink(missing_ok=True)
        with self._lock:
            self.figures.num_restarts += 1
        if self._closed:
            raise RequestError("the server is shutting down", code="shutting_down")


def _arrays(reply: PixelReply, job: PixelJob, path: Path) -> tuple[NDArray[np.uint8], ...]:
    """Map what a worker wrote. Raises ImageError or VideoError for a fault that it tells."""
    if reply.fault is not None:
        raise refused(job.medium, reply.fault, fault=reply.code.partition("_")[2], index=job.index)
    shapes = [shape for picture in reply.pictures for shape in picture.shapes]
    if reply.inline is not None:
        pairs = zip(reply.inline, shapes, strict=True)
        return tuple(np.frombuffer(data, np.uint8).reshape(shape) for data, shape in pairs)
    arrays = []
    for number, shape in enumerate(shapes):
        written = path.with_name(f"{path.name}-{number}")
        arrays.append(np.memmap(written, np.uint8, mode="r", shape=shape))
        written.unlink()
    return tuple(arrays)


def _root() -> Path:
    """Return where arrays wait for the server."""
    return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())


def pixel_pool(vision: VisionSpec | None, config: VisionConfig, *, uncut_pixels: int) -> PixelPool | None:
    """Return the pool of a deployment; None where threads of the server do the work."""
    if vision is None or config.preprocess_workers == 0:
        sweep(_root(), PREFIX)  # a server before this one may have had workers, and been killed
        return None
    return PixelPool(vision, config, uncut_pixels=uncut_pixels)
