"""Whether the graph of a file that was named is the one that a fresh export of the checkpoint has.

That needs no image, and sees what none of them excites: an operator that cuts off values which no
validation image reaches. Another exporter's graph may be another and right. One that pillsnap says
to have exported, by the versions that are here, may not; nor, by whichever versions, one whose own
metadata have the SHA-256 of another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.compare.outcome import Outcome
from pillsnap.compare.verdict import GRAPH, Breach
from pillsnap.config.cells import Cell
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import file_lock, write_atomic
from pillsnap.core.modelfiles import IR
from pillsnap.diagnose import problem_of
from pillsnap.engines.precision import is_lower
from pillsnap.export import Exported, describe_onnx, read_onnx, read_with_weights
from pillsnap.export.fresh import export_like
from pillsnap.export.graphs import find_differences
from pillsnap.export.onnxfile import PREFIX
from pillsnap.export.provenance import has_claims, made_otherwise
from pillsnap.export.reading import exporter_of, graph_sha256

if TYPE_CHECKING:
    import onnx

# Differences that a report lists; it counts all.
LISTED = 48

ALTERED = "its graph is not the one that its own metadata have the SHA-256 of"


def check_graph(
    config: Config, selection: Selection, cell: Cell, info: Mapping[str, Any], run_dir: Path
) -> dict[str, Any] | None:
    """Compare a candidate's graph, once a run and stage for all processes.

    Args:
        info: what the candidate says of itself.
        run_dir: the run's own folder.

    Returns:
        For the report: `compared_with` (exporter, opset, sha256, reused of the fresh export),
        `identical`, `count` and the first of all `differences`; `made_otherwise`, versions and
        such that the file was made with and the fresh export was not; `own`, whether it claims to
        be pillsnap's; `altered`, see _is_altered; `reason`, why it was not compared, all else but
        `altered` null then. None where no file was named.
    """
    if cell.stage not in selection.candidates or "sha256" not in info:
        return None
    why = _unfit(selection, cell, info)
    if why is not None:
        return _not_compared(why)
    note = run_dir / f"graph-{cell.stage}.json"
    try:
        with file_lock(note.with_suffix(".lock")):
            if note.exists():
                known: dict[str, dict[str, Any]] = json.loads(note.read_bytes())
                if info["sha256"] in known:
                    return known[info["sha256"]]
            found = _compare(config, selection, cell.stage, info, run_dir)
            write_atomic(note, json.dumps({info["sha256"]: found}).encode())
            return found
    except Exception as error:  # whatever a foreign file makes of onnx and the exporter
        altered = None
        with suppress(Exception):
            path = Path(info["path"])
            altered = _is_altered(describe_onnx(path, cell.stage), read_onnx(path))
        return _not_compared(problem_of(error), altered)


def graph_breaches(outcomes: Sequence[Outcome]) -> tuple[Breach, ...]:
    """The breach of a file that pillsnap says to have exported so and that is another."""
    found = next((each.graph for each in outcomes if each.graph is not None), None)
    if found is None or found["identical"]:
        return ()
    if found["altered"] and (found["reason"] is not None or found["made_otherwise"]):
        # What differs from a fresh export may come of versions, if there is one.
        return (Breach(GRAPH, 1, 0, ALTERED),)
    if not found["own"] or found["made_otherwise"]:
        return ()
    first = found["differences"][0]
    return (Breach(GRAPH, found["count"], 0, f"{first['node']} {first['text']}".strip()),)


def _unfit(selection: Selection, cell: Cell, info: Mapping[str, Any]) -> str | None:
    """Why a candidate's graph is not that of an export in float32 in any case."""
    if Path(info["path"]).suffix == IR:
        return "a graph of OpenVINO has other operators by intent"
    if cell.precision != "fp32":
        return f"a file of {cell.precision} has another graph than the float32 export by intent"
    if info.get("layout") is not None and not info["layout"]["plain"]:
        return f"a file of layout {info['layout']['name']} ends in other nodes by intent"
    # What says that it is pillsnap's float32 export is held to that, whatever it computes in.
    lower = info.get("foreign") or info.get("quantized") is not None
    if lower and info.get("precision") is not None and is_lower(info["precision"]):
        return "the file is of lower precision, whose graph is another by intent"
    return None


def _compare(
    config: Config, selection: Selection, stage: str, info: Mapping[str, Any], run_dir: Path
) -> dict[str, Any]:
    path = Path(info["path"])
    described, candidate = describe_onnx(path, stage), read_with_weights(path)
    if described.sha256 != info["sha256"]:
        raise PillsnapError("the file was replaced while it was measured")
    if selection.reference is not None:
        raise PillsnapError(
            "a golden bundle stands for the checkpoint, which a fresh export would be made from"
        )
    altered = _is_altered(described, candidate)
    exporter = exporter_of(candidate)
    fresh = export_like(
        config,
        stage,
        exporter,
        described.opset,
        described.dynamic_axes,
        fresh=selection.fresh_export,
        marker=run_dir / f"fresh-{stage}.json",
    )
    same = fresh.sha256 == described.sha256
    healthy = candidate if same else read_onnx(fresh.path)
    differences = [] if same else find_differences(healthy, candidate)
    own = has_claims(described)
    return {
        "compared_with": {
            "exporter": exporter,
            "opset": fresh.opset,
            "sha256": fresh.sha256,
            "reused": fresh.reused,
        },
        "identical": not differences,
        "count": len(differences),
        "differences": [each.as_dict() for each in differences[:LISTED]],
        "made_otherwise": made_otherwise(described, fresh) if own else _by(candidate, healthy),
        "own": own,
        "altered": altered,
        "reason": None,
    }


def _is_altered(described: Exported, model: onnx.ModelProto) -> bool | None:
    """Whether a file of pillsnap's, read as `model`, has not the graph, to the byte, that its
    metadata have the SHA-256 of; None where they have none, or weights lie beside it, which are no
    part of that."""
    told = described.metadata.get(PREFIX + "graph_sha256")
    if not (told and has_claims(described)) or described.weights:
        return None
    return told != graph_sha256(model)


def _by(candidate: onnx.ModelProto, healthy: onnx.ModelProto) -> list[str]:
    """What wrote a foreign file, where that did not write the fresh export."""
    theirs, ours = (
        f"{each.producer_name} {each.producer_version}".strip() for each in (candidate, healthy)
    )
    return [] if theirs == ours else [f"producer {theirs or 'unknown'}, here {ours}"]


def _not_compared(reason: str, altered: bool | None = None) -> dict[str, Any]:
    keys = ("compared_with", "identical", "count", "differences", "made_otherwise", "own")
    return {**dict.fromkeys(keys), "altered": altered, "reason": reason}
