"""The limit of open files, set in processes of their own."""

import subprocess
import sys

PROGRAM = """
import logging, resource, sys
from deployer.serve.open_files import allow_open_files
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
soft, hard, requests = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(allow_open_files(requests), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def said(soft: int, hard: int, max_requests: int) -> str:
    words = [str(number) for number in (soft, hard, max_requests)]
    run = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True)
    return run.stdout


def test_the_soft_limit_becomes_the_hard_one() -> None:
    assert said(64, 800, 256) == "800 (800, 800)\n"


def test_a_hard_limit_below_what_a_full_server_needs_is_told() -> None:
    found = said(64, 500, 400)
    assert "server.max_requests=400: this process may open 500 files" in found
    assert found.endswith("500 (500, 500)\n")
