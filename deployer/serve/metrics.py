"""Prometheus metrics of one server, in a registry of their own; names and units in `docs/serving.md`.

Requests and tokens are counted here when a request ends; what the engine knows is read from its last `Stats`
when somebody scrapes.
"""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deployer.prompt.pixel_pool import PixelPool
from deployer.serve.admission import Admission
from deployer.serve.class_metrics import ClassMetrics, class_figures, class_places
from deployer.serve.endpoints import ENDPOINTS
from deployer.serve.fronts.shared_figures import SharedFigures
from deployer.serve.phase_metrics import PhaseMetrics
from deployer.serve.pricing import Pricing
from deployer.serve.request_record import RequestRecord
from engines.engine import Engine
from engines.stats import Stats

KNOWN_PATHS = frozenset((*ENDPOINTS, "/"))
FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
STAGE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
REQUEST_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Everything /metrics shows."""

    def __init__(
        self,
        *,
        engine: Engine | None,
        admission: Admission,
        shared: SharedFigures | None = None,
    ) -> None:
        """`engine`: None while there is none yet; `watch` tells of it.

        `shared`: the counters of a server that is several processes; None: it is this one.
        """
        here = CollectorRegistry()
        self.requests = Counter(
            "deployer_requests", "HTTP requests answered", ["path", "code"], registry=here
        )
        self.prompt_tokens = Counter(
            "deployer_prompt_tokens", "Prompt tokens of answered requests", registry=here
        )
        self.cached_tokens = Counter(
            "deployer_cached_tokens", "Prompt tokens taken from the prefix cache", registry=here
        )
        self.image_tokens = Counter(
            "deployer_image_tokens", "Prompt tokens that stand for images", registry=here
        )
        self.output_tokens = Counter("deployer_output_tokens", "Tokens generated", registry=here)
        self.images = Counter("deployer_images", "Images in answered requests", registry=here)
        self.first_token = Histogram(
            "deployer_time_to_first_token_seconds",
            "Head of the request to its first token",
            buckets=FIRST_TOKEN_S,
            registry=here,
        )
        self.token = Histogram(
            "deployer_time_per_output_token_seconds",
            "Mean time between tokens of a request",
            buckets=TOKEN_S,
            registry=here,
        )
        self.duration = Histogram(
            "deployer_request_seconds",
            "Head of the request to the end of its answer",
            buckets=REQUEST_S,
            registry=here,
        )
        self.stages = Histogram(
            "deployer_stage_seconds",
            "Time of a request in one stage",
            ["stage"],
            buckets=STAGE_S,
            registry=here,
        )
        self._classes = ClassMetrics(here) if admission.classes.names else None
        self._shown = here if shared is None else CollectorRegistry()
        self._engine_figures = EngineFigures(engine, class_names=admission.classes.names)
        self._shown.register(self._engine_figures)
        self._shown.register(PlaceFigures(admission))
        if shared is None:
            ProcessCollector(registry=here)
        else:
            self._shown.register(shared)

    def watch(self, engine: Engine) -> None:
        """Show the figures of an engine that is there now."""
        self._engine_figures.engine = engine

    def watch_limits(self, pricing: Pricing | None) -> None:
        """Show phases beside the limits of their device, where an option of conf/hardware describes it."""
        self._engine_figures.phases.pricing = pricing

    def watch_pool(self, pool: PixelPool | None) -> None:
        """Show the figures of the processes that prepare pictures and videos, where there are any."""
        if pool is not None:
            self._shown.register(PoolMetrics(pool))

    def request_ended(self, record: RequestRecord, *, duration_s: float) -> None:
        """Count one request."""
        path = record.path if record.path in KNOWN_PATHS else "other"
        self.requests.labels(path, record.status).inc()
        if self._classes is not None and record.qos is not None:
            self._classes.request_ended(record)
        if record.completion is None:
            return
        self.prompt_tokens.inc(record.prompt_tokens)
        self.cached_tokens.inc(record.cached_tokens)
        self.image_tokens.inc(record.image_tokens)
        self.output_tokens.inc(record.output_tokens)
        self.images.inc(record.num_images)
        self.duration.observe(duration_s)
        for stage, seconds in record.stages().items():
            if seconds > 0:  # else the request had no such stage
                self.stages.labels(stage).observe(seconds)
        if record.ttft_s is not None:
            self.first_token.observe(record.ttft_s)
        if record.token_s is not None:
            self.token.observe(record.token_s)

    def text(self) -> bytes:
        """Return the exposition format."""
        return generate_latest(self._shown)


class PlaceFigures(Collector):
    """Places that are held and those there are, read at scrape time."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission

    def collect(self) -> Iterator[Metric]:
        held, gauge = self.admission.held, GaugeMetricFamily
        yield gauge("deployer_requests_in_flight", "Requests between head and end of answer", held.total)
        yield gauge("deployer_requests_allowed", "Requests that may be in flight now", self.admission.places)
        if self.admission.classes.names:
            yield class_places(held.by_class, self.admission.classes.names)


class EngineFigures(Collector):
    """What the engine says of itself, read at scrape time."""

    def __init__(self, engine: Engine | None, *, class_names: Sequence[str]) -> None:
        self.engine = engine  # None: none was made yet
        self.phases = PhaseMetrics()
        self._class_names = class_names

    def collect(self) -> Iterator[Metric]:
        engine = self.engine
        up = engine is not None and engine.state == "ready"
        yield GaugeMetricFamily("deployer_engine_up", "1 while the engine takes work", float(up))
        restarts = 0 if engine is None else engine.num_restarts
        yield CounterMetricFamily("deployer_engine_restarts", "Restarts of the engine", restarts)
        if engine is not None and engine.stats is not None:
            yield from _figures(engine.stats)
            yield from self.phases.figures(engine.stats)
            if self._class_names:
                yield from class_figures(engine.stats, self._class_names)


class PoolMetrics(Collector):
    """What a pool of workers says of itself, read at scrape time."""

    def __init__(self, pool: PixelPool) -> None:
        self.pool = pool

    def collect(self) -> Iterator[Metric]:
        now, gauge, counter = self.pool.figures, GaugeMetricFamily, CounterMetricFamily
        yield gauge("deployer_preprocess_workers", "Processes that prepare pictures", now.num_workers)
        yield gauge("deployer_preprocess_busy", "Of these, at work", now.num_busy)
        yield gauge("deployer_preprocess_waiting", "Pictures that wait for one", now.num_waiting)
        yield counter("deployer_preprocess_images", "Pictures they were given", now.num_done)
        yield counter("deployer_preprocess_seconds", "Time they were at work", now.busy_s)
        yield counter(
            "deployer_preprocess_restarts", "Processes that died and were replaced", now.num_restarts
        )


def _figures(stats: Stats) -> Iterator[Metric]:
    gauge, counter = GaugeMetricFamily, CounterMetricFamily
    yield gauge("deployer_sequences_running", "Sequences in the batch", stats.num_running)
    yield gauge("deployer_sequences_waiting", "Sequences in the queue", stats.num_waiting)
    yield gauge("deployer_kv_pages_used", "KV pages held by sequences", stats.pages_used)
    yield gauge(
        "deployer_kv_pages_cached", "Free KV pages that the prefix cache still knows", stats.pages_cached
    )
    yield gauge("deployer_kv_pages", "KV pages", stats.pages_total)
    yield counter("deployer_engine_steps", "Forward passes since the engine started", stats.steps)
    yield counter("deployer_engine_step_seconds", "Time inside steps since the engine started", stats.step_s)
    yield counter(
        "deployer_engine_wait_seconds", "Of these, the time the host waited for results", stats.wait_s
    )
    yield counter(
        "deployer_engine_gap_seconds", "Time the device waited between steps that there was work", stats.gap_s
    )
    yield counter("deployer_engine_prompt_tokens", "Prompt tokens the engine took", stats.prompt_tokens)
    yield counter("deployer_engine_cached_tokens", "Of these, from the prefix cache", stats.cached_tokens)
    yield counter("deployer_engine_output_tokens", "Tokens the engine generated", stats.output_tokens)
    yield counter(
        "deployer_images_encoded", "Images that went through the vision tower", stats.images_encoded
    )
    yield counter(
        "deployer_encoder_cache_hits", "Images whose features were still there", stats.encoder_cache_hits
    )
    yield counter("deployer_preemptions", "Sequences that gave their pages to another", stats.preemptions)
    yield counter(
        "deployer_proposed_tokens", "Tokens proposed from texts and grammars", stats.proposed_tokens
    )
    yield counter("deployer_accepted_tokens", "Of these, chosen by the model", stats.accepted_tokens)
