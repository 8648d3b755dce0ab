import logging

import pytest

from deployer.generation.generate import AnswerError
from deployer.serve.request_log import log_failure
from deployer.serve.request_record import RequestRecord


@pytest.mark.parametrize(
    ("error", "traced"),
    [(AnswerError("the engine process ended", code="engine_error"), False), (ValueError("ours"), True)],
)
def test_what_the_engine_has_told_of_takes_one_line(
    error: Exception, traced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    record = RequestRecord(method="POST", path="/v1/completions", id="abc")
    with caplog.at_level(logging.ERROR):
        log_failure(record, error)
    (entry,) = caplog.records
    assert "abc" in entry.getMessage() and (entry.exc_info is not None) == traced
