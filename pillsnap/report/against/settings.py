"""What two runs were of and where: versions, hardware, data, models, configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pillsnap.report.against.changes import Setting

# What of a report says so: of its environment and provenance, and of a stage.
_ENVIRONMENT = (
    *("python", "platform", "cpu", "cores", "threads", "gpu", "driver"),
    *("cuda", "cudnn", "tensorrt", "packages", "runtime"),
)
_PROVENANCE = (
    *("git_sha", "git_diff_sha256", "config_sha256", "checkpoints_sha256", "models_sha256"),
    *("data_sha256", "data_fingerprint", "seed"),
)
_STAGE = ("backbone", "num_classes", "input_shape", "opset", "postprocess")
_COMPARE = ("mode", "sample_policy")


def list_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Setting]:
    """Every setting that one of the reports has, in both."""
    before, after = dict(_settings(old)), dict(_settings(new))
    return [Setting(name, before.get(name), after.get(name)) for name in {**before, **after}]


def _settings(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for part, keys in (("environment", _ENVIRONMENT), ("provenance", _PROVENANCE)):
        for key in keys:
            yield from _flat(key, report[part].get(key))
    for stage, found in report["stages"].items():
        if found is not None:
            for key in _STAGE:
                yield from _flat(f"{stage}.{key}", found.get(key))
            for key in _COMPARE:
                yield from _flat(f"{stage}.{key}", found["compare"].get(key))
    for cell in report["cells"]:
        yield from _flat(f"{cell['id']}.tolerances", cell["tolerances"])


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Leaves with their places; what is null is not there."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(f"{name}.{key}", each)
    elif value is not None:
        yield name, f"{value:g}" if isinstance(value, float) else str(value)
