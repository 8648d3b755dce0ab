"""What /openapi.json says beside the bodies: which paths want a key, and which answers lead to others."""

from collections.abc import Callable
from typing import Any

import pytest

from deployer.serve.app import create_app
from deployer.serve.service import Service


def described(service: Service) -> dict[str, Any]:
    return create_app(service).openapi()


def test_paths_behind_a_key_say_so_and_no_others(serve: Callable[..., Service]) -> None:
    kept = described(serve(api_keys=["client"]))
    assert kept["components"]["securitySchemes"] == {
        "key": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    wanting = {path for path, methods in kept["paths"].items() if "security" in next(iter(methods.values()))}
    assert wanting == {
        path for path in kept["paths"] if path.startswith("/v1/") or path.endswith(("tokenize", "generate"))
    }
    free = described(serve())
    assert "securitySchemes" not in free["components"]
    assert not any("security" in one for methods in free["paths"].values() for one in methods.values())


@pytest.mark.parametrize(
    ("method", "path", "leads_to"),
    [
        (
            "post",
            "/v1/responses",
            ["delete /v1/responses/{response_id}", "get /v1/responses/{response_id}",
             "get /v1/responses/{response_id}/input_items", "post /v1/responses/{response_id}/cancel"],
        ),
        ("get", "/v1/models", ["get /v1/models/{name}"]),
    ],
)  # fmt: skip
def test_an_answer_leads_to_the_paths_that_take_its_id(
    serve: Callable[..., Service], method: str, path: str, leads_to: list[str]
) -> None:
    paths = described(serve())["paths"]
    names = {one["operationId"]: f"{kind} {at}" for at, ones in paths.items() for kind, one in ones.items()}
    links = paths[path][method]["responses"]["200"]["links"]
    assert sorted(names[link["operationId"]] for link in links.values()) == leads_to
