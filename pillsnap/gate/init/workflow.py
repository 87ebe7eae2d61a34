"""The workflow for GitHub that runs the gate over a new config.yaml."""

from __future__ import annotations

import os
from pathlib import Path

from pillsnap.gate.init.draft import Draft
from pillsnap.gate.init.lines import to_yaml

WORKFLOW = Path(".github/workflows/pillsnap.yml")
_PACKAGED = Path(__file__).with_name("workflow.yml")


def add_workflow(draft: Draft, command: str) -> None:
    """Add the packaged workflow with this command, at the root of the repository: GitHub reads no
    other."""
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
    run = f"run: {to_yaml(f'{command} -m smoke')}"
    if root != here:
        run += f"\n        working-directory: {to_yaml(here.relative_to(root))}"
    text = _PACKAGED.read_text(encoding="utf-8").replace("run: pillsnap gate -m smoke", run)
    draft.files[Path(os.path.relpath(root)) / WORKFLOW] = text
    needed = "checkpoints, photos, labels and config must be in git, or Git LFS"
    draft.found.append(f"workflow: {needed}")
