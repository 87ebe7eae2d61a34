"""Distributions that are installed by name alone: metadata in a folder, as pip writes it."""

from __future__ import annotations

from pathlib import Path


def register_distribution(folder: Path, name: str, version: str, *requires: str) -> None:
    """Let `folder`, once it is on sys.path, hold a distribution with these requirements."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {each}" for each in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
