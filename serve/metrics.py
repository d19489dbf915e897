"""What the server tells Prometheus."""

from __future__ import annotations

import os
from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"  # where several workers put their numbers together
_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


class Metrics:
    """The numbers of one process. Latencies are from the arrival of the sound to the result."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.active = Gauge(
            "asr_serve_streams_active",
            "Live streams",
            ["protocol"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.ready = Gauge(
            "asr_serve_workers_ready",
            "Workers whose model is loaded and warmed",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.max_rtf = Gauge(
            "asr_serve_max_real_time_factor",
            "Computing time over sound, of the live stream where it is largest",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.streams = Counter(
            "asr_serve_streams", "Live streams begun", ["protocol"], registry=registry
        )
        self.uploads = Counter("asr_serve_uploads", "Recordings transcribed", registry=registry)
        self.rejected = Counter(
            "asr_serve_rejected", "Requests and streams refused", ["reason"], registry=registry
        )
        self.errors = Counter(
            "asr_serve_errors", "Faults of the server itself", ["where"], registry=registry
        )
        self.audio = Counter(
            "asr_serve_audio_seconds", "Audio received", ["protocol"], registry=registry
        )
        self.partial = Histogram(
            "asr_serve_partial_latency_seconds",
            "To a partial result",
            registry=registry,
            buckets=_LATENCY,
        )
        self.final = Histogram(
            "asr_serve_final_latency_seconds",
            "To a final result",
            registry=registry,
            buckets=_LATENCY,
        )
        self.batch = Histogram(
            "asr_serve_batch_streams",
            "Streams computed together",
            registry=registry,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        if MULTIPROCESS not in os.environ:
            ProcessCollector(registry=registry)

    def families(self) -> Iterable[Metric]:
        """The numbers of this process."""
        return self._registry.collect()

    def render(self) -> bytes:
        """Prometheus' text format; of all workers where there are several."""
        if MULTIPROCESS not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)
        return generate_latest(together)
