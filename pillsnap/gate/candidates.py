"""Which file a cell verifies: one that was named, or an export that is made or found; and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pillsnap.core.errors import EngineError, WrongCandidate
from pillsnap.engines import ModelFile, Reference, Request, find_entry
from pillsnap.engines.precision import types_in_words
from pillsnap.engines.timing import Stopwatch
from pillsnap.export import Exported, describe_model, export_onnx
from pillsnap.export.provenance import has_claims, require_fit
from pillsnap.export.quantize import describe_quantized
from pillsnap.export.ultralytics import require_named_fit, unchecked_names
from pillsnap.gate.layouts import set_layout


def open_candidate(
    request: Request,
    choose: Callable[[], Exported],
    reference: Reference,
    layout: str | None = None,
) -> Stopwatch:
    """The candidate of a request's cell, as its engine opens it.

    Args:
        choose: gives the file; not called for an engine that opens none.
        reference: what it is to be compared with.
        layout: of the file, if an option names it.

    Raises:
        EngineError: the engine does not run on the provider.
        WrongCandidate: not one node computes in the cell's precision; as set_layout.
        PillsnapError: as `choose`, and as the engine says.
    """
    cell, entry = request.cell, find_entry(request.cell.engine)
    if cell.provider not in entry.providers:
        raise EngineError(
            f"engine {cell.engine} does not run on provider {cell.provider}",
            where=cell.id,
            expected=", ".join(entry.providers),
        )
    files: list[Exported] = []

    def find() -> ModelFile:
        files.append(choose())
        return files[-1]

    candidate = Stopwatch(entry.open(request, find))
    for file in files:
        names = unchecked_names(file, request.config, reference.class_names)
        candidate.info = {**_describe(file), "unchecked_names": names, **candidate.info}
    _require_precision(candidate.info, cell.precision)
    for file in files:
        candidate.info["layout"] = set_layout(
            candidate.engine, file, request.config, cell.stage, reference, layout
        )
    return candidate


def _require_precision(info: Mapping[str, Any], precision: str) -> None:
    """Hold a candidate to the precision that it is verified for, as far as its engine proves it.

    A file in float32 may well hold the profile of INT8: exporters and quantisers that ignore an
    option leave such files. In float32 the profile itself tells.
    """
    found = info.get("precision")
    if found is None or precision == "fp32" or found["compute_nodes_by_type"].get(precision):
        return
    raise WrongCandidate(
        f"no node of the candidate computes in {precision}",
        where=info.get("path"),
        got=f"{found['compute_nodes']} compute nodes, {types_in_words(found)}",
        expected=f"convolutions and matrix products in {precision}"
        + (", their activations quantised too" if precision == "int8" else ""),
        hint="the exporter or quantiser may have ignored its option: make it again, or verify "
        "it as what it is with --precision, or leave --candidate out and have it made",
    )


def choose_file(
    request: Request,
    reference: Reference,
    *,
    named: Path | None,
    fresh: bool,
    run_dir: Path,
    convert: Callable[[Exported], Exported],
) -> Exported:
    """The file of a request's cell.

    Args:
        reference: what it is to be compared with.
        named: a file to verify in place of an export.
        fresh: never an export of an earlier run.
        run_dir: the run's own folder, so that its processes export once.
        convert: makes a file of the cell's precision out of an exported one.

    Raises:
        WrongCandidate: a named file was made for something else, see require_fit and
            require_named_fit.
        PillsnapError: as describe_model, export_onnx and `convert`.
    """
    config, stage = request.config, request.cell.stage
    if named is not None:
        found = describe_model(named, stage)
        known = reference.engine.info
        checkpoint, entry = known.get("checkpoint_sha256"), known.get("checkpoint_entry")
        require_fit(found, config, stage, checkpoint, reference.transform, entry)
        require_named_fit(found, config, stage, reference.class_names, reference.strides)
        return found
    exported = export_onnx(config, stage, fresh=fresh, marker=run_dir / f"export-{stage}.json")
    if request.cell.precision == "fp32":
        return exported
    return replace(convert(exported), float32=exported.path)


def _describe(exported: Exported) -> dict[str, Any]:
    """What the report says of a file, as plain builtins."""
    return {
        **exported.summary(),
        "size_bytes": exported.size_bytes(),
        "quantized": describe_quantized(exported),
        "foreign": not has_claims(exported),
        "float32_path": None if exported.float32 is None else str(exported.float32),
    }
