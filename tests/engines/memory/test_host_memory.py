import platform
import subprocess
import sys

import pytest

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")

PAGES_AFTER_WARM_UP = """
import resource, sys
from engines.memory.host_memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def turn():
    held = [b"x" * (1 << 20) for _ in range(8)]
for _ in range(5):
    turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@GLIBC
def test_freed_temporaries_are_used_again_without_page_faults() -> None:
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", PAGES_AFTER_WARM_UP, how]))
        for how in ("kept", "default")
    }
    assert faults["kept"] < 100 < faults["default"], faults


ARENAS_OF_SIX_THREADS = """
import ctypes, sys, tempfile, threading
from engines.memory.host_memory import share_arenas
if sys.argv[1] == "shared":
    assert share_arenas()
together = threading.Barrier(6)
def allocate():
    together.wait()
    held = bytearray(1 << 16)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
    assert libc.malloc_info(0, stream) == 0 and libc.fclose(stream) == 0
    print(file.read().count(b"<heap nr="))
"""


@GLIBC
def test_threads_that_share_arenas_open_two_of_them() -> None:
    arenas = {
        how: int(subprocess.check_output([sys.executable, "-c", ARENAS_OF_SIX_THREADS, how]))
        for how in ("shared", "default")
    }
    assert arenas["shared"] == 2 < arenas["default"], arenas
