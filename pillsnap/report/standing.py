"""Whether the gate stands behind a file: what all reports that judged it come to.

The newest report decides. A breach of what the file answers outlasts later passes, of smaller modes
say, until data, configuration (tolerances are part of it) or checkpoint are others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pillsnap.compare.verdict import Breach, concerns_outputs
from pillsnap.core.logrecords import open_log
from pillsnap.core.printable import printable
from pillsnap.report.reading import read_report_files

log = open_log(__name__)

# What reading another thing as a report raises.
_NO_REPORT = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)

PASSING = ("equivalent", "within_tolerance")


@dataclass(frozen=True)
class Judgement:
    """What one cell of a report says of a file.

    Attributes:
        report: its name.
        started: when its run began, ISO 8601 with Z.
        whole: whether that run came to its end.
        provider: what the file ran on, ONNX Runtime's name of it; None where that is not known.
        of_outputs: a breach by what the file answers, not by speed, memory or too few samples.
        basis: hashes of the configuration, the stage's data and its checkpoint; None: not known.
        fingerprint: of the cell's samples.
    """

    report: str
    started: str
    whole: bool
    cell: str
    stage: str
    precision: str
    provider: str | None
    verdict: str
    of_outputs: bool
    basis: tuple[Any, ...]
    fingerprint: Any


@dataclass(frozen=True)
class Standing:
    """Whether a file is approved on a provider; the report that passed it, or why none does."""

    approved: bool
    reason: str


def read_judgements(folder: Path, sha256: str, *, but: str = "") -> list[Judgement]:
    """What the reports in a folder say of the file with this SHA-256; what is no report says
    nothing.

    Args:
        but: name of a report that is left out.
    """
    found = []
    for path, data in read_report_files(folder):
        # Parsing takes long, where there are thousands of reports of other files.
        if path.name == but or sha256.encode() not in data:
            continue
        try:
            found += judgements_of(json.loads(data), path.name, sha256)
        except _NO_REPORT as error:
            log.warning("%s is no report and approves nothing: %r", printable(path), error)
    return found


def judgements_of(report: Mapping[str, Any], name: str, sha256: str) -> list[Judgement]:
    """What a report says of a file. A file of lower precision is judged by its own profile alone:
    that it does not hold that of float32 was to be expected.

    Raises:
        KeyError, TypeError, AttributeError, IndexError: it is no report.
    """
    return list(_judgements(report, name, sha256))


def _judgements(report: Mapping[str, Any], name: str, sha256: str) -> Iterator[Judgement]:
    origin = report["provenance"]
    started, whole = str(origin["started_at_utc"]), report["gate"]["complete"] is True
    for cell in report["cells"]:
        made = cell["quantized"]
        other = made is not None and made["precision"] != cell["precision"]
        if origin["models_sha256"].get(cell["id"]) != sha256 or other:
            continue
        breaches = [Breach(**breach) for breach in cell["breaches"]]
        basis = (
            origin["config_sha256"],
            # Reports of earlier versions have none.
            origin.get("data_sha256", {}).get(cell["stage"]),
            origin["checkpoints_sha256"].get(cell["stage"]),
        )
        yield Judgement(
            name,
            started,
            whole,
            str(cell["id"]),
            cell["stage"],
            cell["precision"],
            cell["execution"]["providers"][0] if cell["execution"] else None,
            cell["verdict"],
            cell["verdict"] == "breach" and (not breaches or concerns_outputs(breaches)),
            basis,
            origin["data_fingerprint"].get(cell["id"]),
        )


def find_standing(judged: Sequence[Judgement], stage: str, provider: str) -> Standing:
    """Whether what was judged approves a file as a stage's model on a provider.

    A run that was broken off decides nothing but by its breaches.
    """
    mine = [
        each
        for each in judged
        if each.stage == stage
        and (each.provider == provider or (each.provider is None and each.verdict == "breach"))
        and (each.whole or each.verdict == "breach")
    ]
    newest = max((each.started for each in mine), default=None)
    latest = [each for each in mine if each.started == newest]
    if not latest:
        return Standing(False, f"no report of the gate has passed it on {provider}")
    for each in latest:
        if each.verdict not in PASSING:
            return Standing(False, f"{each.report}: {each.cell}, {each.verdict}")
    for each in mine:
        if each.of_outputs and _stands(each, latest, mine):
            return Standing(
                False,
                f"{each.report}: {each.cell}, {each.verdict}, with the same data, configuration "
                "and checkpoint",
            )
    return Standing(True, latest[0].report)


def _stands(breach: Judgement, latest: Sequence[Judgement], mine: Sequence[Judgement]) -> bool:
    """Whether a breach is of what the newest report is of as well."""
    if any(
        each.cell == breach.cell
        and each.started > breach.started
        and None not in (each.fingerprint, breach.fingerprint)
        and each.fingerprint != breach.fingerprint
        for each in mine
    ):
        return False  # the images themselves are others by now
    return any(
        each.precision == breach.precision
        and all(
            None in pair or pair[0] == pair[1]
            for pair in zip(each.basis, breach.basis, strict=True)
        )
        for each in latest
    )
