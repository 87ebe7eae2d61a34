"""What a report says of the files that it judged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import StrictBool, ValidationError
from pydantic.dataclasses import dataclass

from pillsnap.compare.verdict import Breach, concerns_outputs
from pillsnap.core.errors import PillsnapError, first_line


@dataclass(frozen=True)
class Judgement:
    """What one cell of a report says of a file.

    Attributes:
        report: its name, printable.
        sha256: of the file.
        weights: SHA-256 of the files beside it that hold its weights, by name.
        started: when its run began, ISO 8601 with Z.
        whole: whether that run came to its end.
        provider: what the file ran on, ONNX Runtime's name of it; None where that is not known.
        of_outputs: a breach by what the file answers, not by speed, memory or too few samples.
        basis: hashes of the configuration, the stage's data and its checkpoint; None: not known.
        fingerprint: of the cell's samples.
        path: where the file was; None: not known.
        level: runtime.graph_optimization_level; None: not known.
        optimizers: names of ONNX Runtime's that were off, sorted.
        layout: how a file of another exporter was read: the layout's name, then the outputs'.
    """

    report: str
    sha256: str
    weights: dict[str, str]
    started: str
    whole: StrictBool
    cell: str
    stage: str
    precision: str
    provider: str | None
    verdict: str
    of_outputs: StrictBool
    basis: tuple[str | None, str | None, str | None]
    fingerprint: str | None
    path: str | None
    level: str | None
    optimizers: tuple[str, ...]
    layout: tuple[str, ...] | None


# What reading another thing as a report raises.
NO_REPORT = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def no_report(path: Path, error: Exception, what: str = "this is no report") -> PillsnapError:
    """What to raise for one of NO_REPORT."""
    place = str(path)
    if isinstance(error, ValidationError) and (keys := error.errors()[0]["loc"]):
        place += f": {'.'.join(map(str, keys))}"
    return PillsnapError(what, where=place, got=in_words(error), expected="an export_report.json")


def in_words(error: Exception) -> str:
    """What one of NO_REPORT says, for those who do not read Python."""
    if isinstance(error, ValidationError):
        return error.errors()[0]["msg"]
    if isinstance(error, KeyError):
        return f"no key {error.args[0]}"
    if isinstance(error, RecursionError):
        return "values nested too deep"
    # Of JSON and texts a ValueError is said in words.
    said = first_line(error)
    return said if isinstance(error, ValueError) else f"a value that does not fit ({said})"


def judgements_of(report: Mapping[str, Any], name: str) -> list[Judgement]:
    """What a report says of every file it judged. A file of lower precision is judged by its own
    profile alone: that it does not hold that of float32 was to be expected. Raises one of NO_REPORT
    where it is none."""
    found, origin = [], report["provenance"]
    paths = {each["sha256"]: each["path"] for each in report["gate"].get("approvals", ())}
    # Reports of earlier versions do not say; they could turn off no single optimizer.
    runtime = report.get("environment", {}).get("runtime", {})
    for cell in report["cells"]:
        sha256, made = origin["models_sha256"].get(cell["id"]), cell["quantized"]
        if sha256 is None or (made is not None and made["precision"] != cell["precision"]):
            continue
        breaches = [Breach(**breach) for breach in cell["breaches"]]
        judgement = Judgement(
            report=name,
            sha256=sha256,
            weights=origin.get("weights_sha256", {}).get(cell["id"], {}),
            started=origin["started_at_utc"],
            whole=report["gate"]["complete"],
            cell=cell["id"],
            stage=cell["stage"],
            precision=cell["precision"],
            provider=cell["execution"]["providers"][0] if cell["execution"] else None,
            verdict=cell["verdict"],
            of_outputs=cell["verdict"] == "breach" and (not breaches or concerns_outputs(breaches)),
            basis=(
                origin["config_sha256"],
                # Reports of earlier versions have none.
                origin.get("data_sha256", {}).get(cell["stage"]),
                origin["checkpoints_sha256"].get(cell["stage"]),
            ),
            fingerprint=origin["data_fingerprint"].get(cell["id"]),
            path=paths.get(sha256),
            level=runtime.get("graph_optimization_level"),
            optimizers=tuple(sorted(runtime.get("disabled_optimizers", ()))),
            layout=_layout(cell.get("layout")),
        )
        found.append(judgement)
    return found


def _layout(found: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    return None if found is None else (found["name"], *found["outputs"])
