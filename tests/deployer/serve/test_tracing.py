"""Traces: the spans of a request, whose trace it is, and what a collector on localhost receives."""

import http.server
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, Script
from serving_configs import SERVER

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deployer.errors import UnavailableError
from deployer.serve import tracing as module
from deployer.serve.app import create_app
from deployer.serve.service import Service
from deployer.serve.tracing import Tracing, check_otel, tracing_of

SECRET = "the-very-secret-question"
PICTURE = "data:image/png;base64,c2VjcmV0LWJ5dGVz"
CHAT = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": SECRET},
                {"type": "image_url", "image_url": {"url": PICTURE}},
            ],
        }
    ]
}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@asynccontextmanager
async def client(service: Service) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        yield api


@pytest.fixture
def spans(serve: Callable[..., Service]) -> Iterator[Callable[..., Any]]:
    """Return a coroutine function: it posts a body to a traced server and returns its spans, by name."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter, sample_ratio=1.0)

    async def ask(body: dict[str, Any], *, path: str = "/v1/chat/completions", **headers: str) -> Any:
        async with client(serve(tracing=tracing)) as api:
            await api.post(path, json=body, headers=headers)
        tracing.close()
        return exporter.get_finished_spans()

    yield ask
    tracing.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_a_span_with_its_stages_inside(spans: Callable[..., Any], stream: bool) -> None:
    found = await spans({**CHAT, "stream": stream}, traceparent=PARENT)
    by_name = {span.name: span for span in found}
    root = by_name["POST /v1/chat/completions"]
    assert set(by_name) - {root.name} == {
        "prompt", "fetch", "picture_decode", "picture_cut", "queue", "prefill", "decode",
    }  # fmt: skip
    assert format(root.context.trace_id, "032x") == PARENT.split("-")[1]
    assert format(root.parent.span_id, "016x") == PARENT.split("-")[2]
    for span in found:
        assert span is root or span.parent.span_id == root.context.span_id
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["gen_ai.usage.output_tokens"] == 19
    assert root.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert by_name["prefill"].attributes["deployer.image_tokens"] == 4
    assert by_name["prefill"].attributes["deployer.encode_ms"] == 125
    lengths = {name: (by_name[name].end_time - by_name[name].start_time) / 1e9 for name in by_name}
    assert (lengths["queue"], lengths["prefill"], lengths["decode"]) == pytest.approx((0.25, 0.5, 1.0))
    assert (lengths["fetch"], lengths["picture_decode"]) == pytest.approx((0.5, 0.25))
    assert by_name["prefill"].start_time == pytest.approx(by_name["queue"].end_time, abs=2)


async def test_neither_texts_nor_pictures_nor_keys_stand_in_a_span(spans: Callable[..., Any]) -> None:
    found = await spans(CHAT, authorization="Bearer sk-hidden")
    told = "".join(span.to_json() for span in found)
    assert "gen_ai.usage.input_tokens" in told
    for hidden in (SECRET, PICTURE[-12:], "sk-hidden", "red circle"):
        assert hidden not in told


async def test_a_refused_request_has_its_span_alone(spans: Callable[..., Any]) -> None:
    (root,) = await spans({"messages": "no"})
    assert root.attributes["http.response.status_code"] == 400
    assert root.attributes["error.type"] == "invalid_request"
    assert root.parent is None


async def test_a_fault_of_ours_is_an_error(spans: Callable[..., Any], engine: FakeEngine) -> None:
    engine.script = lambda _: Script(failed=("engine_error", "lost"))
    root = (await spans(CHAT))[-1]
    assert root.status.status_code.name == "ERROR"


async def test_probes_and_unsampled_callers_are_not_traced(serve: Callable[..., Service]) -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter, sample_ratio=0.0)
    async with client(serve(tracing=tracing)) as api:
        await api.get("/health")
        await api.post("/v1/chat/completions", json=CHAT)
        await api.post("/v1/chat/completions", json=CHAT, headers={"traceparent": PARENT[:-2] + "00"})
        assert exporter.get_finished_spans() == ()
        await api.post("/v1/chat/completions", json=CHAT, headers={"traceparent": PARENT})
    tracing.close()
    assert len(exporter.get_finished_spans()) == 8


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An OTLP/HTTP collector on localhost: its URL, and the bodies that it was sent."""
    bodies: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["content-type"] == "application/x-protobuf"
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_collector_receives_the_trace_that_the_log_names(
    serve: Callable[..., Service], collector: tuple[str, list[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    url, bodies = collector
    tracing = tracing_of(replace(SERVER, otel_endpoint=url))
    assert tracing is not None
    with caplog.at_level("INFO", "deployer.serve"):
        async with client(serve(tracing=tracing)) as api:
            assert (await api.post("/v1/chat/completions", json=CHAT)).status_code == 200
    tracing.close()
    sent = ExportTraceServiceRequest.FromString(bodies[0]).resource_spans[0]
    assert {item.key: item.value.string_value for item in sent.resource.attributes}[
        "service.name"
    ] == "deployer"
    found = sent.scope_spans[0].spans
    assert {span.name for span in found} >= {"POST /v1/chat/completions", "queue", "decode"}
    assert f"trace={found[0].trace_id.hex()}" in caplog.messages[-1]


def test_without_the_package_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_installed", lambda name: False)
    check_otel(SERVER)
    with pytest.raises(
        UnavailableError, match=r"server.otel_endpoint=http://c/v1/traces: .*vlm-deployer\[otel\]"
    ):
        check_otel(replace(SERVER, otel_endpoint="http://c/v1/traces"))


def test_nobody_is_told_of_traces_that_nobody_asks_for() -> None:
    assert tracing_of(SERVER) is None
