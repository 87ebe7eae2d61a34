"""What Prometheus reads: names, labels, and whose they are."""

from __future__ import annotations

import mmap

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from pillsnap.serve.metrics import Metrics

MODELS = {"detection": {"version": 'a"b\\\n', "sha256": "c0", "provider": "CPU", "path": "/m"}}


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Value by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render(2, MODELS))
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def test_names_and_labels_are_the_documented_ones() -> None:
    metrics = Metrics()
    metrics.count("requests", route="/predict", status="200")
    metrics.count("images", 3, outcome="answered")
    metrics.count("reloads", outcome="done")
    metrics.observe_batch(3)
    metrics.observe_predict(0.3)
    found = samples(metrics)
    assert found.pop(("pillsnap_resident_bytes", ())) > 2**20
    info = {"stage": "detection", "version": 'a"b\\\n', "sha256": "c0", "provider": "CPU"}
    assert found == {
        ("pillsnap_requests_total", (("route", "/predict"), ("status", "200"))): 1,
        ("pillsnap_images_total", (("outcome", "answered"),)): 3,
        ("pillsnap_reloads_total", (("outcome", "done"),)): 1,
        ("pillsnap_batches_total", ()): 1,
        ("pillsnap_batch_images_total", ()): 3,
        ("pillsnap_predict_seconds_count", ()): 1,
        ("pillsnap_predict_seconds_sum", ()): 0.3,
        ("pillsnap_waiting_requests", ()): 2,
        ("pillsnap_model_info", tuple(sorted(info.items()))): 1,
    }


def test_each_service_counts_its_own() -> None:
    one, other = Metrics(), Metrics()
    one.observe_batch(5)
    assert samples(one)["pillsnap_batch_images_total", ()] == 5
    assert samples(other)["pillsnap_batch_images_total", ()] == 0
    assert not [family for family in REGISTRY.collect() if family.name.startswith("pillsnap")]


def test_memory_is_counted_in_this_machines_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 KiB on some of arm64."""
    sizes = []
    for page in (4096, 65536):
        monkeypatch.setattr(mmap, "PAGESIZE", page)
        sizes.append(samples(Metrics())["pillsnap_resident_bytes", ()])
    assert sizes[1] > 8 * sizes[0]
