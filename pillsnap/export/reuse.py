"""Files that were made before: by this run, as its markers say, or by an earlier one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pillsnap.core.errors import EngineError, PillsnapError
from pillsnap.core.files import write_atomic
from pillsnap.core.hashes import canonical_json, sha256_file
from pillsnap.core.modelfiles import IR, model_files, sha256_model
from pillsnap.export.irfile import read_ir_file
from pillsnap.export.onnxfile import PREFIX, Exported, exported
from pillsnap.export.properties import read_properties
from pillsnap.export.reading import graph_sha256, read_hashed


@dataclass(frozen=True)
class Wanted:
    """What a file must have been made from.

    Attributes:
        entry: the metadata entry that says so, without prefix.
        key: its value, SHA-256 of the recipe.
        checkpoint: the .pt behind it.
    """

    entry: str
    key: str
    checkpoint: Path | None

    def mark(self, marker: Path, found: Exported) -> None:
        """Tell the other processes of this run which file it is."""
        content = {
            self.entry: self.key,
            "path": str(found.path),
            "sha256": found.sha256,
            "reused": found.reused,
        }
        write_atomic(marker, canonical_json(content).encode())

    def marked(self, marker: Path | None) -> Exported | None:
        """The file that this run has made already, when the marker tells of one that still
        stands."""
        try:
            content: Any = {} if marker is None else json.loads(marker.read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(content, dict) or content.get(self.entry) != self.key:
            return None
        path = Path(str(content.get("path")))
        try:
            if sha256_model(path) != content.get("sha256"):
                return None
        except PillsnapError:
            return None
        reused = content.get("reused") is True
        if path.suffix == IR:
            return read_ir_file(path, self.checkpoint, reused=reused)
        model, sha256 = read_hashed(path)
        return exported(path, sha256, model, self.checkpoint, reused=reused)

    def newest(self, folder: Path, name: re.Pattern[str]) -> Exported | None:
        """The last whole file by name that was made from the same."""
        files = (path for path in folder.iterdir() if name.fullmatch(path.name))
        for path in sorted(files, reverse=True):
            if path.suffix == IR:
                if (found := self._whole_ir(path)) is not None:
                    return found
                continue
            try:
                # Most are of other recipes: only what may be it is read whole.
                if read_properties(path).get(PREFIX + self.entry) != self.key:
                    continue
                model, sha256 = read_hashed(path)
            except (OSError, EngineError):
                continue
            found = exported(path, "", model)
            if found.metadata.get(PREFIX + "graph_sha256") == graph_sha256(model):
                return exported(path, sha256, model, self.checkpoint, reused=True)
        return None

    def _whole_ir(self, path: Path) -> Exported | None:
        """A graph of OpenVINO that was made from the same, with the weights it was written with."""
        try:
            found = read_ir_file(path, self.checkpoint, reused=True)
            weights = sha256_file(model_files(path)[1])
        except PillsnapError:
            return None
        told = (found.metadata.get(PREFIX + each) for each in (self.entry, "graph_sha256"))
        return found if tuple(told) == (self.key, weights) else None
