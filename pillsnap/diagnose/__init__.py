"""Where and why a candidate differs from its reference: layer, stage, cause, and a repro.

A diagnosis explains a verdict and never changes one: what it cannot do is noted in its place.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pillsnap.core.errors import PillsnapError
from pillsnap.core.logrecords import open_log
from pillsnap.diagnose.causes import find_causes
from pillsnap.diagnose.distance import measure_gap, over_noise
from pillsnap.diagnose.fresh_exports import FreshExports
from pillsnap.diagnose.layers import Located, locate
from pillsnap.diagnose.pipeline_budget import pipeline_budget
from pillsnap.diagnose.repro import write_repro
from pillsnap.diagnose.stages import error_budget
from pillsnap.diagnose.subject import Side, Subject, make_subject
from pillsnap.export import read_onnx, read_with_weights

if TYPE_CHECKING:
    import onnx

__all__ = [
    "FreshExports",
    "Side",
    "Subject",
    "diagnose",
    "make_subject",
    "pipeline_budget",
    "problem_of",
]

log = open_log(__name__)

T = TypeVar("T")

# Inner tensors are compared on so many of the samples.
LAYER_SAMPLES = 2


def diagnose(subject: Subject, exports: FreshExports, repro: Path) -> dict[str, Any]:
    """All parts of a diagnosis, as plain builtins for the report.

    Args:
        exports: of the subject's configuration.
        repro: the folder that the repro is written to.

    Returns:
        samples (ids), layers (Located.as_dict), budget (Budget.as_dict), pipeline (None: it takes
        two cells), causes (Causes.as_dict), repro (path of the script), problems, seconds. A part
        that failed is None, and `problems` says why.
    """
    started = time.perf_counter()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Broken models make many, which pytest may turn into errors.
        warnings.simplefilter("ignore")
        found = _parts(subject, exports, repro)
    return {**found, "seconds": round(time.perf_counter() - started, 3)}


def problem_of(error: Exception) -> str:
    """Why a part of a diagnosis failed, in one line of the report."""
    if isinstance(error, PillsnapError):
        return error.what
    log.debug("diagnosis", exc_info=error)
    return f"{type(error).__name__}: {error}"[:300]


def _parts(subject: Subject, exports: FreshExports, repro: Path) -> dict[str, Any]:
    problems: list[str] = []

    def attempt(what: str, run: Callable[[], T]) -> T | None:
        try:
            return run()
        except Exception as error:  # whatever a broken model makes of torch, onnx and the rest
            problems.append(f"{what}: {problem_of(error)}")
        return None

    candidate = attempt("candidate", lambda: read_with_weights(subject.model))
    healthy = located = budget = causes = None
    if candidate is not None:
        healthy = attempt("fresh export", lambda: read_onnx(exports.like(subject.stage, candidate)))
        located = attempt("layers", lambda: _locate(subject, candidate, healthy))
        budget = attempt("budget", lambda: error_budget(subject, candidate, healthy))
        causes = attempt("causes", lambda: find_causes(subject, candidate, exports))
    script = attempt("repro", lambda: write_repro(repro, subject))
    return {
        "samples": list(subject.ids),
        "layers": None if located is None else located.as_dict(),
        "budget": None if budget is None else budget.as_dict(),
        "pipeline": None,
        "causes": None if causes is None else causes.as_dict(),
        "repro": None if script is None else str(script),
        "problems": problems,
    }


def _locate(
    subject: Subject, candidate: onnx.ModelProto, healthy: onnx.ModelProto | None
) -> Located | None:
    images = subject.reference.batch(subject.images[:LAYER_SAMPLES])
    agrees = over_noise(measure_gap(subject.reference.network(images), subject.opened(images))) <= 1
    # Where the file answers as it should, torch's layers need not be asked.
    load = None if agrees else subject.load_network
    return locate(candidate, healthy, load, images, threads=subject.threads)
