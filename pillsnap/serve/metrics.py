"""Counts and times of the service, in the text format of Prometheus."""

from __future__ import annotations

import mmap
import threading
from bisect import bisect_left
from collections import Counter
from pathlib import Path
from typing import Any

# Upper ends, in seconds.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_HELP = {
    "pillsnap_requests_total": "requests answered, by route and status",
    "pillsnap_images_total": "images of /predict, by outcome",
    "pillsnap_batches_total": "forward passes of the pipeline",
    "pillsnap_batch_images_total": "images in them",
    "pillsnap_reloads_total": "calls of /reload, by outcome",
}
_Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters and one histogram; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, _Labels]] = Counter()
        self._times = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to pillsnap_<name>_total."""
        with self._lock:
            self._counts[f"pillsnap_{name}_total", tuple(sorted(labels.items()))] += amount

    def observe_batch(self, images: int) -> None:
        self.count("batches")
        self.count("batch_images", images)

    def observe_predict(self, seconds: float) -> None:
        """Note how long a request to /predict took."""
        with self._lock:
            self._times[bisect_left(_BUCKETS, seconds)] += 1
            self._seconds += seconds

    def render(self, gauges: dict[str, float], models: dict[str, dict[str, Any]]) -> str:
        """All of it as text.

        Args:
            gauges: values of this moment, by name without prefix.
            models: what /version says of each stage's model.
        """
        with self._lock:
            counts, times, seconds = dict(self._counts), list(self._times), self._seconds
        lines = []
        for name, text in _HELP.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
            found = sorted(key for key in counts if key[0] == name)
            lines += [f"{name}{_text(labels)} {counts[name, labels]}" for _, labels in found]
        lines += _histogram("pillsnap_predict_seconds", times, seconds)
        for name, value in {**gauges, "resident_bytes": resident_bytes()}.items():
            lines += [f"# TYPE pillsnap_{name} gauge", f"pillsnap_{name} {value:g}"]
        lines.append("# TYPE pillsnap_model_info gauge")
        for stage, facts in models.items():
            labels = tuple((key, facts[key]) for key in ("version", "sha256", "provider"))
            lines.append(f"pillsnap_model_info{_text((('stage', stage), *labels))} 1")
        return "\n".join(lines) + "\n"


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * mmap.PAGESIZE  # not 4 KiB on every arm64


def _histogram(name: str, counts: list[int], total: float) -> list[str]:
    lines, sofar = [f"# TYPE {name} histogram"], 0
    for end, count in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=True):
        sofar += count
        lines.append(f'{name}_bucket{{le="{end}"}} {sofar}')
    return [*lines, f"{name}_sum {total:.6f}", f"{name}_count {sofar}"]


def _text(labels: _Labels) -> str:
    if not labels:
        return ""
    quoted = (f'{key}="{_escape(value)}"' for key, value in labels)
    return "{" + ",".join(quoted) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
