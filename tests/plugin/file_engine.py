"""The numpy engine as one that ships files, for tests of what becomes of them.

Exports and checkpoints are short texts: what they hold is what the engine multiplies its answers
with, so 1 is a healthy one; or CUT, which gives another shape. An export is named by the tag in
exp/tag, and made from its checkpoint.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pillsnap.config.cells import STAGES
from pillsnap.core.hashes import sha256_file
from pillsnap.engines import Engine, Reference, Request, register
from pillsnap.engines.torch.checkpoints import checkpoint_path
from tests.plugin.numpy_engine import NumpyBackend, healthy
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


class FileBackend(NumpyBackend):
    """Opens texts in place of models."""

    def open_reference(self, request: Request) -> Reference:
        found = super().open_reference(request)
        checkpoint = _checkpoint(request)
        found.engine.info.update(checkpoint=str(checkpoint))
        found.engine.info.update(checkpoint_sha256=sha256_file(checkpoint))
        return found

    def open_candidate(self, request: Request) -> Engine:
        engine = super().open_candidate(request)
        path = request.candidate or _export(request)
        text = path.read_text()
        engine.fault = (  # type: ignore[attr-defined]
            lambda stage, batch, output: output[:, :-1] if text == CUT else output * float(text)
        )
        engine.info = _facts(path)
        return engine


def _checkpoint(request: Request) -> Path:
    return checkpoint_path(request.config.exp_dir, request.cell.stage)


def _export(request: Request) -> Path:
    tag = (request.config.exp_dir / "tag").read_text()
    path = request.config.out_dir / f"{request.cell.stage}-{tag}.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_text(_checkpoint(request).read_text())
    return path


def _facts(path: Path) -> dict[str, Any]:
    return {
        "path": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
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


def register_files(name: str) -> None:
    register(name, lambda: FileBackend(healthy, None))
