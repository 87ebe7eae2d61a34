"""Which files /reload may load: those below allowed folders that the gate has passed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pillsnap.logrecords import open_log
from pillsnap.reportfiles import read_report_files
from pillsnap.serve.refusal import Refusal

log = open_log(__name__)

# Of a model that /reload looks at: it is read from end to end before anything is known of it.
MAX_BYTES = 16 * 2**30

PASSING = ("equivalent", "within_tolerance")


def require_allowed(text: str, folders: Sequence[Path]) -> Path:
    """The file that a client names, links followed.

    Args:
        text: a path; a relative one starts at the first folder.
        folders: what it must lie in, or below.

    Raises:
        Refusal: 403 for a path that leads out of all folders, 404 where there is no file, 422 for
            one that is too large.
    """
    if not text or "\0" in text or len(text) > 4096:
        raise Refusal(422, "a model path must be text of 1 to 4096 characters")
    roots = [folder.resolve() for folder in folders]
    try:
        path = (roots[0] / text).resolve()
        inside = any(path.is_relative_to(root) for root in roots)
        if inside and path.is_file():
            if path.stat().st_size > MAX_BYTES:
                raise Refusal(422, f"the file has more than {MAX_BYTES} bytes, as no model has")
            return path
    # A loop of links, a name that is too long, or one that no file name can be.
    except (OSError, RuntimeError, ValueError):
        inside = True
    if not inside:
        # Whether something is there is not said.
        raise Refusal(403, "models are loaded from below the allowed folders only")
    raise Refusal(404, "there is no such model below the allowed folders")


def is_approved(reports: Path, stage: str, sha256: str, provider: str) -> bool:
    """Whether a report of the gate has passed this very file, on this provider.

    Args:
        reports: folder of the gate's reports.
        stage: detection or classification.
        sha256: of the file, in hex.
        provider: ONNX Runtime's name of it.
    """
    return any(
        cell.get("stage") == stage
        and cell.get("verdict") in PASSING
        and _ran_on(cell) == provider
        and models.get(str(cell.get("id"))) == sha256
        for models, cells in _reports(reports)
        for cell in cells
    )


def _reports(folder: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """SHA-256 of the models by cell, and the cells, of every report that can be read."""
    for path, data in read_report_files(folder):
        try:
            report = json.loads(data)
            models, cells = report["provenance"]["models_sha256"], report["cells"]
            yield dict(models), [dict(cell) for cell in cells]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("%s is no report and approves nothing: %r", path, error)


def _ran_on(cell: dict[str, Any]) -> str | None:
    execution = cell.get("execution")
    providers = execution.get("providers") if isinstance(execution, dict) else None
    return providers[0] if isinstance(providers, list) and providers else None
