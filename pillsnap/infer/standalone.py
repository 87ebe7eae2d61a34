"""pillsnap_pipeline.py: the pipeline as one file beside the models, out of pillsnap's source."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pillsnap.config.cells import STAGES
from pillsnap.config.settings import Config
from pillsnap.core.errors import EngineError
from pillsnap.core.files import write_atomic
from pillsnap.engines.onnxruntime.engine import open_for_use
from pillsnap.engines.torch.checkpoints import stage_transform
from pillsnap.export import Exported, describe_onnx
from pillsnap.export.provenance import has_claims
from pillsnap.export.runtimes import least_runtime
from pillsnap.infer.foreign import read_foreign
from pillsnap.infer.models import read_codes, require_same_settings
from pillsnap.infer.standalone_needs import NEEDED, numbers_of

FILE_NAME = "pillsnap_pipeline.py"

# Modules in the order of the file, and of some only these names.
_SOURCES: tuple[tuple[str, tuple[str, ...] | None], ...] = (
    ("core/printable.py", ("_HIDDEN", "printable", "_is_hidden")),
    ("core/errors.py", None),
    ("core/placeholders.py", ("_LFS", "_MOST_BYTES", "Placeholder", "find_placeholder")),
    ("core/cpus.py", None),
    ("core/streams.py", None),
    ("pipeline/transforms.py", None),
    ("pipeline/preprocess.py", None),
    ("pipeline/nms.py", ("Rows", "nms", "suppress_boxes", "take_boxes", "to_rows")),
    ("pipeline/layouts.py", None),
    ("pipeline/crops.py", None),
    ("pipeline/codes.py", None),
    ("pipeline/images.py", None),
    ("pipeline/softmax.py", None),
    ("pipeline/twostage.py", None),
    (
        "pipeline/batches.py",
        ("_MOST_IMAGES", "fixed_batch_size", "in_fixed_batches", "_joined", "with_rows"),
    ),
    ("engines/onnxruntime/feeding.py", ("_TYPES", "run_session", "_channels_last", "_why_not")),
    ("infer/standalone_main.py", None),
)
_ROOT = Path(__file__).parents[1]
_END = """

if __name__ == "__main__":
    import signal

    if hasattr(signal, "SIGPIPE"):  # a reader that goes, as head does, ends it like other commands
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
"""


def publish_standalone(config: Config) -> Path | None:
    """Write pillsnap_pipeline.py for the latest exports; None where there is none.

    Raises:
        PillsnapError: a model or map cannot be read, the configuration that is frozen in is not
            the one that a model was exported for, or the file cannot be written.
    """
    links = {stage: config.out_dir / f"latest_{stage}.onnx" for stage in STAGES}
    models = {stage: _released(link, stage) for stage, link in links.items() if link.is_file()}
    return write_standalone(config, models, config.out_dir) if models else None


def write_standalone(config: Config, models: Mapping[str, Exported], folder: Path) -> Path:
    """Write pillsnap_pipeline.py for these models, by stage, into the folder where they lie; errors
    are publish_standalone's."""
    path = folder / FILE_NAME
    write_atomic(path, make_standalone(config, models, {}))
    return path


def make_standalone(
    config: Config, models: Mapping[str, Exported], names: Mapping[str, str]
) -> bytes:
    """The content of pillsnap_pipeline.py for these models, by stage; errors are
    publish_standalone's, but for the writing.

    Args:
        names: of the models beside it, by stage, where they are others than where they lie now.
    """
    for stage, model in models.items():
        require_same_settings(config, stage, model)
    frozen = freeze(config, models)
    for stage, name in names.items():
        frozen["stages"][stage]["file"] = name
    return assemble(frozen).encode()


def _released(link: Path, stage: str) -> Exported:
    """The export behind a link; also behind a copy, which will be of another export one day. What
    lies elsewhere is found by the link alone."""
    found = describe_onnx(link, stage)
    export = link.resolve().with_name(f"{stage}-{found.version_tag}.onnx")
    if export.is_file():
        return replace(found, path=export)
    return found if found.path.parent == link.parent.resolve() else replace(found, path=link)


def freeze(config: Config, models: Mapping[str, Exported]) -> dict[str, Any]:
    """Everything that the pipeline takes from config and maps, as JSON's own types.

    Raises:
        EngineError: a model keeps weights in other files, which its SHA-256 does not cover.
        DataError: a map cannot be read.
    """
    for model in models.values():
        if model.weights:
            raise EngineError(
                "a pipeline in one file takes models in one file",
                where=model.path,
                got=f"weights in {', '.join(model.weights)}",
            )
    codes = read_codes(config)
    # The oldest that will do for any, where it is not known which one a model needs.
    runtimes = (least_runtime(m.opset, m.ir_version) for m in models.values())
    return {
        "onnxruntime": max((each or NEEDED["onnxruntime"][1] for each in runtimes), key=numbers_of),
        "graph_optimization_level": config.runtime.graph_optimization_level,
        "disabled_optimizers": list(config.runtime.disabled_optimizers),
        "stages": {
            stage: {
                "file": model.path.name,
                "sha256": model.sha256,
                "version": model.version_tag or model.path.resolve().stem,
                "transform": asdict(stage_transform(config, stage)),
                **_freeze_reading(config, stage, model),
            }
            for stage, model in models.items()
        },
        "nms": asdict(config.nms),
        "crop_margin": config.pipeline.crop_margin,
        "mode": config.pipeline.mode,
        "codes": None if codes.codes is None else {str(i): c for i, c in codes.codes.items()},
        "edi": None if codes.edi is None else dict(codes.edi),
    }


def _freeze_reading(config: Config, stage: str, model: Exported) -> dict[str, Any]:
    """Layout and outputs of a file of another exporter, see Foreign; None of pillsnap's own."""
    if has_claims(model):
        return {"layout": None, "outputs": None, "final_above": None}
    opened = open_for_use(model, "cpu", 1, config)
    found = read_foreign(config, stage, model, opened)
    return {
        "layout": found.reading.layout.name,
        "outputs": list(found.reading.names),
        "final_above": found.final_above,
    }


def assemble(frozen: dict[str, Any]) -> str:
    """The source of pillsnap_pipeline.py with these parameters."""
    imports: set[str] = set()
    bodies = []
    for name, wanted in _SOURCES:
        text = (_ROOT / name).read_text(encoding="utf-8")
        tree = ast.parse(text)
        body = _picked(tree, text, wanted)
        imports |= set(_imports(tree, body))
        bodies.append(f"# ---- pillsnap/{name}\n\n" + body.strip("\n"))
    source = "\n\n\n".join(bodies)
    start = (_ROOT / "infer/standalone_needs.py").read_text(encoding="utf-8")
    _, _, start = start.partition("from __future__ import annotations\n")
    needed = {**NEEDED, "onnxruntime": (NEEDED["onnxruntime"][0], frozen["onnxruntime"])}
    versions = ", ".join(f"{name} {least}" for name, least in needed.values())
    # JSON in a literal of Python, whatever the names of the maps hold.
    literal = f"json.loads({json.dumps(json.dumps(frozen, sort_keys=True))})"
    source = source.replace("FROZEN: dict[str, Any] = {}", f"FROZEN: dict[str, Any] = {literal}")
    head = ast.get_docstring(ast.parse((_ROOT / "infer/standalone_main.py").read_text())) or ""
    return (
        f'# ruff: noqa\n"""{head}\n\nNeeded, or newer: {versions}.\n'
        'Written by pillsnap; licence AGPL-3.0-or-later.\n"""\n\n'
        f"from __future__ import annotations\n{start}\n\n"
        f"require_versions({needed!r}, __name__ == '__main__')\n\n"
        + "\n".join(sorted(imports))
        + f"\n\n{source}\n{_END}"
    )


def _picked(tree: ast.Module, text: str, wanted: tuple[str, ...] | None) -> str:
    """The source of a module's definitions, with the comments above them, without imports."""
    lines = text.splitlines()
    parts, end = [], 0
    for node in tree.body:
        start, end = end, node.end_lineno or 0
        # Imports come first in the file; an If is for type checkers alone, an Expr a docstring.
        is_definition = not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.If)
        if is_definition and (wanted is None or _name(node) in wanted):
            parts.append("\n".join(lines[start:end]))
    return "\n".join(parts)


def _name(node: ast.stmt) -> str:
    target = node.targets[0] if isinstance(node, ast.Assign) else node
    return str(getattr(target, "name", None) or getattr(target, "id", ""))


def _imports(tree: ast.Module, used: str) -> Iterator[str]:
    """The module's imports of other packages of which `used` has a name."""
    names = {node.id for node in ast.walk(ast.parse(used)) if isinstance(node, ast.Name)}
    for node in tree.body:
        if isinstance(node, ast.Import):
            kept = [alias for alias in node.names if (alias.asname or alias.name) in names]
            yield from (ast.unparse(ast.Import([alias])) for alias in kept)
        elif isinstance(node, ast.ImportFrom):
            package = (node.module or "").partition(".")[0]
            if package not in ("pillsnap", "__future__"):
                for alias in node.names:
                    if (alias.asname or alias.name) in names:
                        yield ast.unparse(ast.ImportFrom(node.module, [alias], 0))
