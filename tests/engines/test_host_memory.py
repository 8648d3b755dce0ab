import platform
import subprocess
import sys

import pytest

PAGES_AFTER_WARM_UP = """
import resource, sys
from engines.host_memory import keep_freed_memory
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_freed_temporaries_are_used_again_without_page_faults() -> None:
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", PAGES_AFTER_WARM_UP, how]))
        for how in ("kept", "default")
    }
    assert faults["kept"] < 100 < faults["default"], faults
