"""A config.yaml while it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pillsnap.gate.init.lines import line, section

_HEAD = """\
# Configuration of pillsnap, by `pillsnap init`. Keys that are not here have their defaults; the
# config.yaml of pillsnap's repository documents all of them. Paths start at this file's folder.
# Where FILL stands no file could tell: `pillsnap gate` names these lines until they have a value.
"""


@dataclass
class Draft:
    """What is known so far.

    Attributes:
        folder: of the config.yaml.
        sections: lines of `detection` and `classification`, as far as these are there.
        validation, data, shapes, compare: lines below data.val, data, export.input_shape and
            export.compare.
        found: what is to be told, a line each.
        files: content of further files by path.
    """

    folder: Path
    sections: dict[str, list[str]] = field(default_factory=dict)
    validation: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    compare: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    files: dict[Path, str] = field(default_factory=dict)

    def text(self) -> str:
        """The file's content."""
        parts = [
            section(
                "paths", [line("exp_dir", "exp", about="exports, reports, caches: not for git")]
            ),
            section("data", [*section("val", self.validation), *self.data]),
            *(section(name, lines) for name, lines in self.sections.items()),
            section(
                "export",
                [*section("input_shape", self.shapes), *section("compare", self.compare)],
            ),
        ]
        return _HEAD + "".join("\n" + "\n".join(part) + "\n" for part in parts)
