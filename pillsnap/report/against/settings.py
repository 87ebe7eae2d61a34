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
    *("git_sha", "git_diff_sha256", "config_sha256", "seed"),
    *("checkpoints_sha256", "models_sha256", "data_sha256", "data_fingerprint"),
)
# Of them those that say it by stage or by cell.
_BY_NAME = _PROVENANCE[-4:]
_STAGE = ("backbone", "num_classes", "input_shape", "opset", "postprocess")
_COMPARE = ("mode", "sample_policy")


def list_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Setting]:
    """Every setting that one of the reports has, in both; of a stage or a cell where both have
    that."""
    both = _names(old) & _names(new)
    before, after = dict(_settings(old, both)), dict(_settings(new, both))
    return [Setting(name, before.get(name), after.get(name)) for name in {**before, **after}]


def _names(report: Mapping[str, Any]) -> set[str]:
    """Of the stages that were run and of the cells."""
    stages = {stage for stage, found in report["stages"].items() if found is not None}
    return stages | {cell["id"] for cell in report["cells"]}


def _settings(report: Mapping[str, Any], names: set[str]) -> Iterator[tuple[str, str]]:
    for key in _ENVIRONMENT:
        yield from _flat(key, report["environment"].get(key))
    for key in _PROVENANCE:
        value = report["provenance"].get(key)
        if key in _BY_NAME and isinstance(value, Mapping):
            value = {name: each for name, each in value.items() if name in names}
        yield from _flat(key, value)
    for stage, found in report["stages"].items():
        if stage in names:
            for key in _STAGE:
                yield from _flat(f"{stage}.{key}", found.get(key))
            for key in _COMPARE:
                yield from _flat(f"{stage}.{key}", found["compare"].get(key))
    for cell in (each for each in report["cells"] if each["id"] in names):
        yield from _flat(f"{cell['id']}.tolerances", cell["tolerances"])


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Leaves with their places; what is null is not there."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(f"{name}.{key}", each)
    elif value is not None:
        yield name, f"{value:g}" if isinstance(value, float) else str(value)
