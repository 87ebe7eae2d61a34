"""What the wheel holds: all that a run needs, and no training."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_no_training() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    find = settings["tool"]["setuptools"]["packages"]["find"]
    ours = {path.parent for path in (ROOT / "pillsnap").rglob("__init__.py")}
    names = {path.relative_to(ROOT).as_posix().replace("/", ".") for path in ours}

    def matches(name: str, patterns: list[str]) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    packages = {n for n in names if matches(n, find["include"]) and not matches(n, find["exclude"])}
    assert names - packages == {"pillsnap.demo.training"}
    # Nothing that is in it imports what is not.
    for path in ours - {ROOT / "pillsnap" / "demo" / "training"}:
        for file in path.glob("*.py"):
            assert "demo.training" not in file.read_text(encoding="utf-8").replace(
                "`pillsnap.demo.training`", ""
            )


def test_the_wheel_holds_every_file_that_is_no_code() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["pillsnap"]
    found = {path for pattern in patterns for path in (ROOT / "pillsnap").glob(pattern)}
    files = {
        path
        for path in (ROOT / "pillsnap").rglob("*.*")
        if path.is_file()
        and path.suffix != ".py"
        and not {"__pycache__", "training"}.intersection(path.parts)
    }
    assert {path.name for path in files} >= {"page.html", "style.css", "report.schema.json"}
    assert files <= found
