"""Processes that decode and cut pictures beside the server (`vision.preprocess_workers`).

A worker that dies is replaced, and its picture is tried once more by another: a process may be killed for
reasons that are not the picture's. Files of a job are unlinked as soon as they are mapped.
"""

import asyncio
import itertools
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from deployer.config.schema import VisionConfig
from deployer.prompt.image_errors import ImageError
from deployer.prompt.image_tiles import PictureTimes, PreparedImage
from deployer.prompt.pixel_job import PixelJob, PixelReply, PixelSetup
from deployer.prompt.planned import PlannedImage
from engines.errors import RequestError
from engines.ipc.owned_folder import OwnedFolder, sweep
from engines.ipc.pixel_files import SHARED_MEMORY
from engines.spec import VisionSpec

PREFIX = "vlm-decoded-"
ATTEMPTS = 2
EXIT_S = 2.0


class WorkerDiedError(Exception):
    """The process at the other end is gone."""


class PixelWorker:
    """One process and the connection to it; used by one thread at a time."""

    def __init__(self, setup: PixelSetup) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "deployer.prompt.pixel_worker", str(theirs.fileno())]
            self.process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=_environment()
            )
        self._connection = Connection(ours.detach())
        self._connection.send(setup)

    def ask(self, job: PixelJob) -> PixelReply:
        """Wait for the answer to a job. Raises WorkerDiedError."""
        try:
            self._connection.send(job)
            return msgspec.msgpack.decode(self._connection.recv_bytes(), type=PixelReply)
        except (EOFError, OSError) as error:
            raise WorkerDiedError from error

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        try:
            self.process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _environment() -> dict[str, str]:
    """Return an environment in which no device can be opened."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


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

    async def prepare(self, image: PlannedImage, data: bytes, *, shared: tuple[int, ...]) -> PreparedImage:
        """Decode and cut a picture of a planned prompt. Raises ImageError, or RequestError at the end."""
        job = PixelJob(
            data=data,
            index=image.picture.index,
            fineness=image.part.fineness,
            plan=image.slot.plan,
            shared=shared,
            path=str(self._folder.path / str(next(self._names))),
        )
        reply, arrays = await asyncio.wrap_future(self._submit(job))
        return PreparedImage(
            key_of=lambda: reply.key,
            name=image.name,
            start=image.start,
            num_tokens=len(image.slot.token_ids),
            rows=image.slot.rows,
            arrays=arrays,
            is_cut=reply.is_cut,
            plan=image.slot.plan,
            shared=shared,
            notes=image.picture.notes,
            times=PictureTimes(
                fetch_begun_s=image.picture.fetch_begun_s,
                fetch_s=image.picture.fetch_s,
                decode_begun_s=reply.decode_begun_s,
                decode_s=reply.decode_s,
                cut_s=reply.cut_s,
            ),
        )

    def close(self) -> None:
        """End the processes; jobs that wait are cancelled, those that run fail."""
        self._closed = True
        for worker in tuple(self._workers):
            worker.process.terminate()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in tuple(self._workers):
            worker.close()
        self._folder.close()

    def _submit(self, job: PixelJob) -> Future[tuple[PixelReply, tuple[NDArray[np.uint8], ...]]]:
        with self._lock:
            self.figures.num_waiting += 1
        future = self._threads.submit(self._run, job)
        future.add_done_callback(self._forget_cancelled)
        return future

    def _forget_cancelled(self, future: Future[Any]) -> None:
        """Uncount a job whose request went away before a worker was free."""
        if future.cancelled():
            with self._lock:
                self.figures.num_waiting -= 1

    def _run(self, job: PixelJob) -> tuple[PixelReply, tuple[NDArray[np.uint8], ...]]:
        """Give a job to a worker that is free. Raises ImageError where it cannot be done."""
        worker = self._idle.get()
        begun_s = time.perf_counter()
        with self._lock:
            self.figures.num_waiting -= 1
            self.figures.num_busy += 1
        try:
            for _ in range(ATTEMPTS):
                worker = worker or self._started()
                try:
                    reply = worker.ask(job)
                except WorkerDiedError:
                    self._bury(worker, job)
                    worker = None
                else:
                    return reply, self._arrays(reply, job)
        finally:
            self._idle.put(worker)
            with self._lock:
                self.figures.num_busy -= 1
                self.figures.num_done += 1
                self.figures.busy_s += time.perf_counter() - begun_s
        raise ImageError(
            f"{ATTEMPTS} processes died while they decoded it", code="image_unreadable", index=job.index
        )

    def _started(self) -> PixelWorker:
        worker = PixelWorker(self._setup)
        self._workers.add(worker)
        return worker

    def _bury(self, worker: PixelWorker, job: PixelJob) -> None:
        """Count a death and remove what the worker may have written; the next job starts another."""
        worker.close()
        self._workers.discard(worker)
        for path in self._folder.path.glob(f"{Path(job.path).name}-*"):
            path.unlink(missing_ok=True)
        with self._lock:
            self.figures.num_restarts += 1
        if self._closed:
            raise RequestError("the server is shutting down", code="shutting_down")

    def _arrays(self, reply: PixelReply, job: PixelJob) -> tuple[NDArray[np.uint8], ...]:
        """Map what a worker wrote. Raises ImageError for a fault that it tells."""
        if reply.fault is not None:
            raise ImageError(reply.fault, code=reply.code, index=job.index)
        if reply.inline is not None:
            pairs = zip(reply.inline, reply.shapes, strict=True)
            return tuple(np.frombuffer(data, np.uint8).reshape(shape) for data, shape in pairs)
        arrays = []
        for number, shape in enumerate(reply.shapes):
            path = Path(f"{job.path}-{number}")
            arrays.append(np.memmap(path, np.uint8, mode="r", shape=shape))
            path.unlink()
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
