"""What is of one task stands in its record: elsewhere nothing asks for its name, nor guesses it."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pillsnap

ROOT = Path(pillsnap.__file__).parent
NAMES = ("detection", "classification")
CONSTANTS = {"DETECTION", "CLASSIFICATION", "DETECTOR", "CLASSIFIER"}
KINDS = {"LetterboxTransform", "ClassifyTransform"}

# Where the two are written down: the records themselves, the configuration, the demo's models.
HOMES = ("config/", "demo/", "compare/tasks.py")
MOST = 30


def asks(node: ast.AST) -> bool:
    """Whether a node is a task's name, or a question that a task's name answers."""
    if isinstance(node, ast.Constant):
        return node.value in NAMES
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        kinds = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        return node.func.id == "isinstance" and bool(kinds & KINDS)
    if isinstance(node, ast.Compare):  # a name compared, or the rank of an output
        sides = [node.left, *node.comparators]
        named = any(isinstance(side, ast.Name) and side.id in CONSTANTS for side in sides)
        ranked = any(isinstance(side, ast.Attribute) and side.attr == "ndim" for side in sides)
        # What refuses another rank with != asks for no task.
        return named or (ranked and isinstance(node.ops[0], ast.Eq))
    if isinstance(node, ast.If | ast.IfExp):
        return isinstance(node.test, ast.Attribute) and node.test.attr == "geometries"
    return False


def test_what_is_of_one_task_stands_in_its_record() -> None:
    found: Counter[str] = Counter()
    for path in ROOT.rglob("*.py"):
        place = path.relative_to(ROOT)
        if not place.as_posix().startswith(HOMES):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found[place.as_posix()] += sum(map(asks, ast.walk(tree)))
    assert found.total() <= MOST, found.most_common(40)
