"""Where the gate's items are, found without importing anything: a gate neither waits for a
project's other tests and their conftests, nor fails by them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FIXTURE = "gate_item"

# The item that a test file imports, and that `pillsnap gate` collects.
PACKAGED = "pillsnap.testing"
PACKAGED_ITEM = f"{PACKAGED}::test_equivalence"

_KNOWN = pytest.StashKey[dict[Path, bool]]()


def holds_gate_items(path: Path, config: pytest.Config) -> bool:
    """Whether a file has a test of the fixture gate_item, its own or the packaged one, or a folder
    such a file."""
    known = config.stash.setdefault(_KNOWN, {})
    if path not in known:
        try:
            known[path] = _folder_has(path, config) if path.is_dir() else _file_has(path)
        except OSError:
            known[path] = False  # what cannot be read cannot be run
    return known[path]


def finds_gate_items(config: pytest.Config) -> bool:
    """Whether any of the paths that pytest was given holds some."""
    here = config.invocation_params.dir
    return PACKAGED_ITEM in config.args or any(
        holds_gate_items(here / arg.partition("::")[0], config) for arg in config.args
    )


def _folder_has(folder: Path, config: pytest.Config) -> bool:
    left_out = config.hook.pytest_ignore_collect  # such as virtual environments
    return any(
        not left_out(collection_path=path, config=config) and holds_gate_items(path, config)
        for path in sorted(folder.iterdir())
        if path.suffix == ".py" or path.is_dir()
    )


def _file_has(path: Path) -> bool:
    if path.suffix != ".py":
        return False
    content = path.read_bytes()
    if FIXTURE.encode() not in content and PACKAGED.encode() not in content:
        return False
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError):
        return True  # pytest says what is wrong with it
    # An import of the packaged item, an argument, or a name for pytest.mark.usefixtures.
    return any(
        (isinstance(node, ast.ImportFrom) and node.module == PACKAGED)
        or (isinstance(node, ast.arg) and node.arg == FIXTURE)
        or (isinstance(node, ast.Constant) and node.value == FIXTURE)
        for node in nodes
    )
