"""Counters of several processes: their sum, also of those that are gone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deployer.serve.fronts.shared_figures import FOLDER_VARIABLE

# Counts as a front does, and says what /metrics would be; then waits to be killed, or not.
COUNTS = """
import os, sys
from pathlib import Path
from deployer.serve.admission import Admission
from deployer.serve.fronts.shared_figures import SharedFigures
from deployer.serve.metrics import Metrics
from deployer.serve.request_record import RequestRecord
shared = SharedFigures(Path(sys.argv[1]), lambda: {"0": os.getpid(), "gone": 1 << 30})
metrics = Metrics(engine=None, admission=Admission(7), shared=shared)
for _ in range(int(sys.argv[2])):
    record = RequestRecord(id="a", method="POST", path="/v1/completions", status=200, completion="c")
    record.saw_tokens(3)
    metrics.request_ended(record, duration_s=0.2)
print(metrics.text().decode(), "EOF", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_sum_is_that_of_all_and_keeps_what_the_dead_counted(
    tmp_path: Path, number: signal.Signals
) -> None:
    environment = {**os.environ, FOLDER_VARIABLE: str(tmp_path)}

    def counting(times: int) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            (sys.executable, "-c", COUNTS, str(tmp_path), str(times)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert process.stdout is not None
        text = ""
        while "EOF" not in text:
            text += process.stdout.readline()
        return process, text

    first, text = counting(2)
    assert 'deployer_requests_total{code="200",path="/v1/completions"} 2.0' in text
    assert "deployer_output_tokens_total 6.0" in text
    assert "# HELP deployer_output_tokens_total Tokens generated" in text
    assert "deployer_requests_allowed 7.0" in text
    first.send_signal(number)
    first.communicate()
    second, text = counting(3)
    second.communicate("")
    assert 'deployer_requests_total{code="200",path="/v1/completions"} 5.0' in text
    assert 'deployer_request_seconds_bucket{le="0.25"} 5.0' in text
    assert 'deployer_request_seconds_bucket{le="0.1"} 0.0' in text
    assert "deployer_request_seconds_count 5.0" in text
    assert 'process_open_fds{process="0"}' in text and 'process="gone"' not in text
    assert text.count("# TYPE process_open_fds gauge") == 1
