"""A gate imports the files of its own items alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillsnap.plugin.collecting import holds_gate_items
from tests.plugin.project import Project


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def test_a(gate_item): ...", True),
        ("class TestA:\n    async def test_a(self, *, gate_item): ...", True),
        ("import pytest\n@pytest.mark.usefixtures('gate_item')\ndef test_a(): ...", True),
        ("from pillsnap.testing import test_equivalence as test_gate", True),
        ("import pillsnap.testing_tools", False),
        ("def test_a():\n    run('def test_b(gate_item): ...')  # gate_item", False),
        ("def test_gate_items(item): ...", False),
        ("def test_a(gate_item: ...", True),  # pytest says what is wrong with it
        ("", False),
    ],
)
def test_a_gate_item_is_an_argument_of_a_test(
    pytestconfig: pytest.Config, tmp_path: Path, source: str, found: bool
) -> None:
    file = tmp_path / "sub" / "test_it.py"
    file.parent.mkdir()
    file.write_text(source)
    assert [holds_gate_items(path, pytestconfig) for path in (file, tmp_path)] == [found] * 2
    notes = tmp_path / "notes.txt"
    notes.write_text("gate_item")
    assert not holds_gate_items(notes, pytestconfig)


def test_a_gate_leaves_other_tests_alone(project: Project) -> None:
    """Also those with a mark of its name: with the development's packages missing, say."""
    other = project.path / "tests" / "other"
    other.mkdir()
    (other / "conftest.py").write_text("import a_package_that_is_not_here\n")
    (other / "test_them.py").write_text("def test_gate_item(): assert 'a gate_item'\n")
    own = project.path / "tests" / "test_own.py"
    own.write_text("import pytest\nprint('imported')\n@pytest.mark.smoke\ndef test_own(): ...\n")
    gate = project.run("-m", "smoke", "--collect-only", "-s")
    assert gate.ret == 0
    assert "imported" not in gate.stdout.str()
    (other / "conftest.py").unlink()
    plain = project.run("--collect-only", "-q", engine=None)
    plain.stdout.fnmatch_lines(["*test_gate_item*", "*test_equivalence*", "*test_own*"])
