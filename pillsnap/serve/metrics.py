"""Counts and times of the service, in the text format of Prometheus."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

# By the counter's name, without pillsnap_ and _total: what it counts, and its labels.
_COUNTERS = {
    "requests": ("requests answered, by route and status", ("route", "status")),
    "images": ("images of /predict, by outcome", ("outcome",)),
    "batches": ("forward passes of the pipeline", ()),
    "batch_images": ("images in them", ()),
    "reloads": ("calls of /reload, by outcome", ("outcome",)),
}

# Upper ends, in seconds.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_MODEL_FACTS = ("version", "sha256", "provider")


class Metrics:
    """Counters and one histogram in a registry of their own; safe between threads."""

    def __init__(self) -> None:
        from prometheus_client import (
            CollectorRegistry,
            Counter,
            Histogram,
            disable_created_metrics,
        )

        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._counters = {
            name: Counter(f"pillsnap_{name}_total", text, labels, registry=self._registry)
            for name, (text, labels) in _COUNTERS.items()
        }
        self._predict_seconds = Histogram(
            "pillsnap_predict_seconds",
            "time that requests to /predict took",
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to pillsnap_<name>_total."""
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc(amount)

    def observe_batch(self, images: int) -> None:
        self.count("batches")
        self.count("batch_images", images)

    def observe_predict(self, seconds: float) -> None:
        self._predict_seconds.observe(seconds)

    def render(self, waiting: int, models: dict[str, dict[str, Any]]) -> str:
        """All of it as text; `models` is what /version says of each stage's."""
        from prometheus_client import CollectorRegistry, Gauge, generate_latest

        moment = CollectorRegistry()
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        resident = pages * mmap.PAGESIZE  # not 4 KiB on every arm64
        for name, text, value in (
            ("waiting_requests", "requests that wait for an answer", waiting),
            ("resident_bytes", "memory of the process that is in RAM", resident),
        ):
            Gauge(f"pillsnap_{name}", text, registry=moment).set(value)
        labels = ("stage", *_MODEL_FACTS)
        info = Gauge("pillsnap_model_info", "models that serve", labels, registry=moment)
        for stage, facts in models.items():
            info.labels(stage, *(facts[name] for name in _MODEL_FACTS)).set(1)
        return (generate_latest(self._registry) + generate_latest(moment)).decode()
