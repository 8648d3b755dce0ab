"""Metrics by class of service; there are none where `server.qos` has no classes."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from deployer.serve.request_record import RequestRecord
from engines.stats import Stats

QUEUE_S = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LABELS = ("class",)


class ClassMetrics:
    """What the server knows of each class."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "deployer_class_requests", "Requests answered", ["class", "code"], registry=registry
        )
        self._prompt_tokens = Counter(
            "deployer_class_prompt_tokens", "Prompt tokens of answered requests", LABELS, registry=registry
        )
        self._output_tokens = Counter(
            "deployer_class_output_tokens", "Tokens generated", LABELS, registry=registry
        )
        self._queue = Histogram(
            "deployer_class_queue_seconds",
            "Time in the engine's queue, of a request's longest choice",
            LABELS,
            buckets=QUEUE_S,
            registry=registry,
        )

    def request_ended(self, record: RequestRecord) -> None:
        """Count one request of a class."""
        self._requests.labels(record.qos, record.status).inc()
        if record.completion is None:
            return
        self._prompt_tokens.labels(record.qos).inc(record.prompt_tokens)
        self._output_tokens.labels(record.qos).inc(record.output_tokens)
        if record.finish is not None:
            self._queue.labels(record.qos).observe(record.queue_s)


def class_places(held: Mapping[str, int], names: Sequence[str]) -> Metric:
    """Return the places that each class holds."""
    family = GaugeMetricFamily("deployer_class_requests_in_flight", "Requests in flight", labels=LABELS)
    for name in names:
        family.add_metric([name], held[name])
    return family


def class_figures(stats: Stats, names: Sequence[str]) -> Iterator[Metric]:
    """Yield what the engine says of each class."""
    for name, about, counts in (
        ("deployer_class_sequences_running", "Sequences in the batch", stats.running_by_class),
        ("deployer_class_sequences_waiting", "Sequences in the queue", stats.waiting_by_class),
    ):
        family = GaugeMetricFamily(name, about, labels=LABELS)
        for one, number in zip(names, counts, strict=False):  # none before a restarted engine's first figures
            family.add_metric([one], number)
        yield family
