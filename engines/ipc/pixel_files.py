"""Pixels on their way to the engine: one uint8 array a file in shared memory. Torch-free.

The front end writes (`PixelFiles.write`), the engine maps and unlinks (`engines/ipc/take_pixels.py`); what
nobody took goes with `remove` or, at the latest, with `close`. A file that does not fit into shared memory
goes to the temporary folder.
"""

import itertools
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import RequestError
from engines.ipc.owned_folder import OwnedFolder, sweep
from engines.messages import PixelRef

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "vlm-pixels-"


class PixelFiles:
    """The pixel files of one front end, in folders that only this user can read."""

    def __init__(self) -> None:
        self._roots = [SHARED_MEMORY] if os.access(SHARED_MEMORY, os.W_OK) else []
        self._roots.append(Path(tempfile.gettempdir()))
        for root in self._roots:
            sweep(root, PREFIX)  # also where no picture ever comes: what a killed server left takes memory
        self._folders: dict[Path, OwnedFolder] = {}  # made with the first file that needs them
        self._lock = threading.Lock()  # preprocessing writes from several threads
        self._names = itertools.count()

    def write(self, array: NDArray[np.uint8]) -> PixelRef:
        """Store an array and name it; the ref belongs to one submit.

        Raises RequestError where neither shared memory nor the temporary folder has room.
        """
        data = np.ascontiguousarray(array)
        name = str(next(self._names))
        fault: OSError | None = None
        for root in self._roots:
            path = None
            try:
                path = self._folder(root) / name
                path.write_bytes(data.data)
            except OSError as error:  # shared memory is small in a container; the next folder is on disk
                if path is not None:
                    path.unlink(missing_ok=True)
                fault = error
            else:
                return PixelRef(path=str(path), shape=data.shape)
        raise RequestError(
            f"{data.nbytes:,} bytes of a picture find no room in "
            f"{' or '.join(str(root) for root in self._roots)} ({fault and fault.strerror}): a picture lies "
            "there until the engine reads it; try again, or make room on the server",
            code="no_room",
        )

    def link(self, ref: PixelRef) -> PixelRef:
        """Name the same bytes once more, for a further submit with the same image."""
        path = Path(ref.path).with_name(str(next(self._names)))
        path.hardlink_to(ref.path)
        return PixelRef(path=str(path), shape=ref.shape)

    def remove(self, ref: PixelRef) -> None:
        """Drop a file that nobody took; nothing happens where it is gone already."""
        Path(ref.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove everything."""
        for folder in self._folders.values():
            folder.close()
        self._folders.clear()

    def _folder(self, root: Path) -> Path:
        with self._lock:
            if root not in self._folders:
                self._folders[root] = OwnedFolder(root, PREFIX)
            return self._folders[root].path
