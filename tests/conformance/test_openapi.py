"""schemathesis against our own /openapi.json: no answer of 500 or above, whatever a body holds.

All of its checks. One of them wants everything taken that fits the schema: `BEYOND_A_SCHEMA` lists the
refusals that the schema does not foretell; any other 400 of a body that fits is a failure. The application
is asked in this process, around the stand-in engine. The default is small; the full run:

    EXAMPLES=200 pytest tests/conformance/test_openapi.py
"""

import os
import re
from typing import Any

import schemathesis
from fake_engine import FakeEngine
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from serving import make_service

from deployer.serve.app import create_app

EXAMPLES = int(os.environ.get("EXAMPLES", "5"))
ENGINE = FakeEngine()
# What the message of such a refusal says -> what it rests on.
BEYOND_A_SCHEMA = {
    r"together at most|tokens: must be fewer": "how many tokens a text has",
    r"(?:image|video) \d+: |^`mm_processor_kwargs\b[^`]*`: ": "what a URL leads to, and how it may be cut",
    r"is no call of the|calls without a result|has a result already|is the id of": "calls and their results",
    r"must come first in a turn|the last turn is": "the order of turns and blocks",
    r"is not stored": "which responses the server keeps",
    r"two functions have the same name|`tool_choice`": "names within a list",
    r"`best_of`|more than the \d+ tokens|they mean the same|answers: at most": "two fields together",
    r"^`(?:response_format|text.format|output_config.format)`": "a regex, grammar or schema that compiles",
    r"^`tools`: f|`tools\[\d+\]": "a schema that compiles",
    r"log-probabilities beside `tools`|needs `tools`": "what does not go together yet",
}
BEYOND = re.compile("|".join(BEYOND_A_SCHEMA))
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
    answer = case.call()
    beyond = answer.status_code == 400 and BEYOND.search(answer.json()["error"]["message"])
    case.validate_response(answer, excluded_checks=[positive_data_acceptance] if beyond else [])
