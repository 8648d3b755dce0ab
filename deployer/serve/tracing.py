"""OpenTelemetry traces (`server.otel_endpoint`): one span a request, and one for each of its stages.

Spans are made when a request has ended, from the times in its record; nothing of it runs while tokens are
streamed. They hold counts, names and times: no text, no picture, no key. A `traceparent` header (W3C) makes
the request part of its caller's trace.
"""

import time
from collections.abc import Iterator
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from deployer.config.schema import ServerConfig
from deployer.errors import UnavailableError
from deployer.serve.installed import is_installed
from deployer.serve.request_record import RequestRecord

PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
EXPORT_TIMEOUT_S = 5.0  # for one batch; also what the end of the server waits for a collector that is away
SERVER_ERROR = 500


def check_otel(server: ServerConfig) -> None:
    """Raise UnavailableError where traces are asked for and what sends them is not installed."""
    if server.otel_endpoint is None or all(map(is_installed, PACKAGES)):
        return
    raise UnavailableError(
        f"server.otel_endpoint={server.otel_endpoint}: needs `opentelemetry-sdk` and "
        "`opentelemetry-exporter-otlp-proto-http`; pip install 'vlm-deployer[otel]'"
    )


def tracing_of(server: ServerConfig) -> "Tracing | None":
    """Return what sends the traces of a server; None where nobody asks for them."""
    if server.otel_endpoint is None:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(endpoint=server.otel_endpoint, timeout=EXPORT_TIMEOUT_S)
    return Tracing(exporter, sample_ratio=server.otel_sample_ratio)


class Tracing:
    """Makes the spans of requests and hands them to an exporter, in batches on a thread of its own."""

    def __init__(self, exporter: Any, *, sample_ratio: float) -> None:
        """`sample_ratio`: of the traces that begin here; a caller's own decision holds for its requests."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "deployer"}),
            sampler=ParentBasedTraceIdRatio(sample_ratio),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, export_timeout_millis=EXPORT_TIMEOUT_S * 1e3)
        )
        self._tracer = self._provider.get_tracer("deployer")
        self._propagator = TraceContextTextMapPropagator()

    def request_ended(self, record: RequestRecord, scope: Scope, *, duration_s: float) -> str:
        """Send the spans of a request; returns the id of its trace for the log."""
        from opentelemetry import trace

        to_unix_ns = time.time_ns() - time.perf_counter_ns()
        root = self._tracer.start_span(
            f"{record.method} {record.path}",
            context=self._propagator.extract(dict(Headers(scope=scope))),
            kind=trace.SpanKind.SERVER,
            start_time=_ns(record.start_s, to_unix_ns),
            attributes=dict(_attributes(record)),
        )
        if record.status >= SERVER_ERROR:
            root.set_status(trace.Status(trace.StatusCode.ERROR, record.error))
        inside = trace.set_span_in_context(root)
        for name, start_s, seconds, attributes in _stages(record) if root.is_recording() else ():
            span = self._tracer.start_span(
                name, context=inside, start_time=_ns(start_s, to_unix_ns), attributes=attributes
            )
            span.end(_ns(start_s + seconds, to_unix_ns))
        root.end(_ns(record.start_s + duration_s, to_unix_ns))
        return trace.format_trace_id(root.get_span_context().trace_id)

    def close(self) -> None:
        """Send what is left; a collector that is away is waited for `EXPORT_TIMEOUT_S` at most."""
        self._provider.shutdown()


def _stages(record: RequestRecord) -> Iterator[tuple[str, float, float, dict[str, int | float]]]:
    """Yield name, start, seconds and attributes of each stage; those of pictures may lie side by side."""
    if record.prompt_s > 0:
        yield "prompt", record.prompt_begun_s, record.prompt_s, {"deployer.images": record.num_images}
    for number, picture in enumerate(record.pictures, 1):
        which: dict[str, int | float] = {"deployer.image": number}
        yield "fetch", picture.fetch_begun_s, picture.fetch_s, which
        yield "picture_decode", picture.decode_begun_s, picture.decode_s, which
        yield "picture_cut", picture.decode_begun_s + picture.decode_s, picture.cut_s, which
    if record.finish is None:
        return
    begun_s = record.submitted_s
    yield "queue", begun_s, record.queue_s, {}
    begun_s += record.queue_s
    yield (
        "prefill",
        begun_s,
        record.prefill_s,
        {
            "gen_ai.usage.input_tokens": record.prompt_tokens,
            "deployer.cached_tokens": record.cached_tokens,
            "deployer.image_tokens": record.image_tokens,
            "deployer.encode_ms": round(record.encode_s * 1e3, 3),
        },
    )
    begun_s += record.prefill_s
    yield "decode", begun_s, record.decode_s, {"gen_ai.usage.output_tokens": record.output_tokens}


def _attributes(record: RequestRecord) -> Iterator[tuple[str, str | int | bool | tuple[str, ...]]]:
    yield "http.request.method", record.method
    yield "url.path", record.path
    yield "http.response.status_code", record.status
    yield "deployer.request_id", record.id
    if record.error is not None:
        yield "error.type", record.error
    if record.qos is not None:
        yield "deployer.class", record.qos
    if record.completion is None:
        return
    yield "gen_ai.request.model", record.model
    yield "gen_ai.response.id", record.completion
    yield "gen_ai.usage.input_tokens", record.prompt_tokens
    yield "gen_ai.usage.output_tokens", record.output_tokens
    yield "deployer.images", record.num_images
    yield "deployer.stream", record.stream
    if record.finish is not None:
        yield "gen_ai.response.finish_reasons", (record.finish,)


def _ns(perf_s: float, to_unix_ns: int) -> int:
    return int(perf_s * 1e9) + to_unix_ns
