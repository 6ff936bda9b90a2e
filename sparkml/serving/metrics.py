"""Figures of a service for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536)


class Metrics:
    """Counters, gauges and histograms of one service; `model` is a version: `classifier/v3`."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self.requests = Counter(
            "sparkml_requests", "Requests by path and status", ("path", "code"), registry=own
        )
        self.seconds = Histogram(
            "sparkml_request_seconds",
            "From a request's body to its answers",
            ("model",),
            buckets=_SECONDS,
            registry=own,
        )
        self.answers = Counter(
            "sparkml_answers", "Examples answered", ("model", "role", "outcome"), registry=own
        )
        self.batch_rows = Histogram(
            "sparkml_batch_rows", "Examples of a batch", ("model",), buckets=_ROWS, registry=own
        )
        self.batch_tokens = Histogram(
            "sparkml_batch_tokens", "Tokens of a batch", ("model",), buckets=_TOKENS, registry=own
        )
        self.batch_seconds = Counter(
            "sparkml_batch_seconds", "Seconds of workers in batches", ("model",), registry=own
        )
        self.queue = Gauge("sparkml_queue_seconds", "Until a worker has time for a new request", registry=own)
        self.workers = Gauge("sparkml_workers", "Worker processes that can answer", registry=own)
        self.deaths = Counter("sparkml_worker_deaths", "Worker processes that died", registry=own)
        self.log_lost = Counter(
            "sparkml_log_lost_rows", "Rows that the log table could not take", registry=own
        )

    def batch(self, model: str, rows: int, tokens: int, seconds: float) -> None:
        """A batch was answered."""
        self.batch_rows.labels(model).observe(rows)
        self.batch_tokens.labels(model).observe(tokens)
        self.batch_seconds.labels(model).inc(seconds)

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return generate_latest(self._registry)
