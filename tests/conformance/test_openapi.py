"""schemathesis against our own /openapi.json: no answer of 500 or above, whatever a body holds.

All of its checks but one: that whatever fits the schema is taken. Rules between fields, such as a result that
must name an earlier call, stand in no JSON schema. The application is asked in this process, around the
stand-in engine. The default is small; the full run:

    EXAMPLES=200 pytest tests/conformance/test_openapi.py
"""

import os
from typing import Any

import schemathesis
from fake_engine import FakeEngine
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from serving import make_service

from deployer.serve.app import create_app

EXAMPLES = int(os.environ.get("EXAMPLES", "5"))
ENGINE = FakeEngine()
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", create_app(make_service(ENGINE)))


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_is_described(case: Any) -> None:
    case.call_and_validate(excluded_checks=[positive_data_acceptance])
