"""The numpy engine as one that ships files, for tests of what becomes of them.

Exports and checkpoints are short texts: what they hold is what the engine multiplies its answers
with, so 1 is a healthy one; or CUT, which gives another shape. An export is named by the tag in
exp/tag, and made from its checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pillsnap.config.cells import STAGES
from pillsnap.config.settings import Config
from pillsnap.core.hashes import sha256_file
from pillsnap.engines import Entry, FindFile, Reference, Request, register
from pillsnap.engines.torch.checkpoints import checkpoint_paths
from pillsnap.export.onnxfile import Exported
from pillsnap.gate import candidates
from tests.plugin.numpy_engine import NumpyEngine, open_reference
from tests.plugin.project import Project

CPU = "CPUExecutionProvider"
CUT = "cut"
TAGS = ("20250101-000000-nogit", "20250202-000000-nogit")
SOURCE = "from tests.plugin.file_engine import register_files\nregister_files({name!r})\n"


def install(project: Project, name: str = "files") -> None:
    """Give a project healthy checkpoints of both stages, and this engine as `--engine <name>`."""
    for stage in STAGES:
        checkpoint = project.path / "exp" / "checkpoints" / f"{stage}_best.pt"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text("1")
    (project.path / "exp" / "tag").write_text(TAGS[0])
    project.write_fault(SOURCE.format(name=name))


def register_files(name: str) -> None:
    """The engine, and texts wherever the gate makes or reads an .onnx."""
    candidates.export_onnx = _export  # type: ignore[attr-defined]
    candidates.describe_model = _describe  # type: ignore[attr-defined]
    register(Entry(name, _open, reference=_open_reference, diagnosed=True))


def _open(request: Request, file: FindFile) -> NumpyEngine:
    text = file().path.read_text()
    engine = NumpyEngine(
        request.cell.stage,
        lambda stage, batch, output: output[:, :-1] if text == CUT else output * float(text),
    )
    engine.info = {
        "providers": [CPU],
        "provider_options": {},
        "placement": {
            "provider": CPU,
            "compute_nodes": 1,
            "compute_nodes_on_provider": 1,
            "compute_nodes_by_provider": {CPU: 1},
            "other_ops_elsewhere": {},
        },
    }
    return engine


def _open_reference(request: Request) -> Reference:
    found = open_reference(request, None)
    checkpoint = checkpoint_paths(request.config, request.cell.stage)[0]
    found.engine.info.update(checkpoint=str(checkpoint), checkpoint_sha256=sha256_file(checkpoint))
    return found


def _export(config: Config, stage: str, **how: Any) -> Exported:
    path = config.out_dir / f"{stage}-{(config.exp_dir / 'tag').read_text()}.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_text(checkpoint_paths(config, stage)[0].read_text())
    return _describe(path, stage)


def _describe(path: Path, stage: str) -> Exported:
    return Exported(path, sha256_file(path), 17, True, 1.0, "", "", "", "", None, {}, False)
