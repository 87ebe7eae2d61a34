"""The house rules of imports: one direction, no cycles, nothing heavy before it is needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import pillsnap

ROOT = Path(pillsnap.__file__).parent

# The rooms from top to bottom: arrows point to lower ones, or stay in a room.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("config", "pipeline", "demo"),
    ("engines", "data"),
    ("compare",),
    ("export",),
    ("diagnose", "report"),
    ("infer",),
    ("gate", "serve"),
    ("proof",),
    ("plugin",),
    ("testing",),
)

# How much may stand at the top of pillsnap/ (py.typed aside), and in one file.
MOST_ENTRIES, MOST_LINES = 17, 250

HEAVY = {"torch", "timm", "ultralytics", "onnx", "onnxruntime", "openvino", "nncf", "pycocotools"}
HEAVY |= {"fsspec", "jinja2", "jsonschema", "markupsafe", "ray"}
HEAVY |= {"prometheus_client", "scipy", "starlette", "uvicorn"}

# The modules that train the demo's checkpoints, which the gate never imports.
MAY_BE_HEAVY = {"pillsnap.demo.training.assigner"}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of pillsnap, parsed."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ["pillsnap", *path.relative_to(ROOT).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Names of the modules that these nodes import; `from a import b` is a.b where that is one."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            inner = {f"{module}.{alias.name}" for alias in node.names}
            names |= (inner & modules().keys()) or {module}
    return names


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported, outside functions and TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from at_import(node)


@cache
def arrows() -> dict[str, set[str]]:
    """The modules of pillsnap that each imports, at its top or inside a function.

    That importing a.b runs a/__init__.py first is not an arrow: no name of it is used.
    """
    return {
        name: (imported(ast.walk(tree)) & modules().keys()) - {name}
        for name, tree in modules().items()
    }


def layer(name: str) -> int:
    """The layer of a module of pillsnap."""
    head = name.removeprefix("pillsnap.").partition(".")[0]
    (found,) = [index for index, names in enumerate(LAYERS) if head in names]
    return found


def components(graph: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components: sets of nodes that all reach each other."""

    def reach(start: str) -> set[str]:
        seen, todo = {start}, [start]
        while todo:
            for name in graph[todo.pop()] - seen:
                seen.add(name)
                todo.append(name)
        return seen

    reached = {name: reach(name) for name in graph}
    return [{other for other in reached[name] if name in reached[other]} for name in sorted(graph)]


def test_the_checker_of_cycles_finds_them() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert components(graph) == [{"a"}, {"b", "c"}, {"b", "c"}, {"d"}]


def test_there_are_no_cycles() -> None:
    cycles = {frozenset(names) for names in components(arrows()) if len(names) > 1}
    assert cycles == set()


def test_every_room_has_one_layer_and_every_layer_its_rooms() -> None:
    heads = {name.split(".")[1] for name in modules() if "." in name}
    listed = [name for names in LAYERS for name in names]
    assert len(listed) == len(set(listed))
    assert set(listed) == heads


def test_arrows_only_point_down() -> None:
    wrong = [
        f"{name} -> {other}"
        for name, others in arrows().items()
        for other in others
        if name.split(".")[:2] != other.split(".")[:2] and layer(name) <= layer(other)
    ]
    assert wrong == []


def test_the_hall_has_few_doors_and_no_file_is_long() -> None:
    ours = [path for path in ROOT.iterdir() if path.name not in ("__pycache__", "py.typed")]
    assert len(ours) <= MOST_ENTRIES
    long = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }
    assert long == set()


def test_the_package_itself_imports_nothing_of_its_own() -> None:
    # Its names are loaded when they are used: see the test of a fresh process.
    assert arrows()["pillsnap"] == set()


def test_only_the_plugin_imports_pytest() -> None:
    importers = {
        name
        for name, tree in modules().items()
        if any(
            other.split(".")[0] in ("pytest", "_pytest", "xdist", "pluggy")
            for other in imported(ast.walk(tree))
        )
    }
    assert "pillsnap.plugin.hooks" in importers
    assert {name.split(".")[1] for name in importers} == {"plugin"}


def test_cpus_are_counted_in_one_place() -> None:
    counters = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("cpu_count", "sched_getaffinity")
    }
    assert counters == {"pillsnap.core.cpus"}


def test_heavy_libraries_are_imported_where_they_are_needed() -> None:
    heavy = {
        name
        for name, tree in modules().items()
        if {other.split(".")[0] for other in imported(at_import(tree))} & HEAVY
    }
    assert heavy == MAY_BE_HEAVY
    users = {name for name, others in arrows().items() if others & MAY_BE_HEAVY}
    assert all(name.startswith("pillsnap.demo.training.") for name in users)


@pytest.mark.parametrize(
    "module",
    ["pillsnap", "pillsnap.plugin.hooks", "pillsnap.infer.__main__", "pillsnap.serve.service"],
)
def test_a_fresh_process_loads_nothing_heavy(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert "pillsnap" in loaded
    assert loaded & {*HEAVY, "cv2"} == set()
    # Models of the report are made where one is built, at the end of a run.
    assert "pillsnap.report.models" not in json.loads(done.stdout)
    if module == "pillsnap":
        assert loaded & {"numpy", "cv2", "PIL", "yaml", "pytest"} == set()


def test_public_names_are_few_and_resolve() -> None:
    assert len(pillsnap.__all__) <= 10
    assert len(set(pillsnap.__all__)) == len(pillsnap.__all__)
    for name in pillsnap.__all__:
        assert getattr(pillsnap, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pillsnap.nothing  # noqa: B018
