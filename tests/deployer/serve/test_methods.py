"""HEAD and Allow, as HTTP has them."""

import httpx
import pytest


@pytest.mark.parametrize(
    "path", ["/", "/health", "/ready", "/metrics", "/v1/models", "/openapi.json", "/v1/nothing"]
)
async def test_head_is_get_without_its_body(api: httpx.AsyncClient, path: str) -> None:
    head, get = await api.head(path), await api.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    for name in ("content-type", "content-length"):
        if path not in ("/health", "/ready", "/metrics") or name == "content-type":  # those tell of now
            assert head.headers[name] == get.headers[name], name


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/responses/resp_1", "DELETE, GET, HEAD"),
        ("OPTIONS", "/v1/responses/input_tokens", "POST"),
        ("DELETE", "/v1/models/fake", "GET, HEAD"),
        ("GET", "/v1/chat/completions", "POST"),
        ("HEAD", "/v1/chat/completions", "POST"),
        ("TRACE", "/health", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_served_is_told_which_are(
    api: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await api.request(method, path)
    assert (answer.status_code, answer.headers.get_list("allow")) == (405, [allowed])
