"""Links lead to what is there, and what the documents tell to run is run, or what it asks for is
there. tests/e2e/test_commands.py runs the gate's."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pillsnap.config.cells import MODES
from pillsnap.plugin.command import COMMANDS
from pillsnap.plugin.options import named_modes, select
from tests.documents import DOCUMENTS, ROOT, commands, fenced, shell_blocks

LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")

FIVE_MINUTES = "tests/e2e/test_five_minutes.py"
# By the beginning of a block, the test that runs it, and what in it does.
RUN = {
    "pip install 'pillsnap[headless,cpu]'": (
        FIVE_MINUTES,
        "\"pip install 'pillsnap[headless,cpu]'",
    ),
    "pillsnap infer --inputs ": (FIVE_MINUTES, '"pillsnap infer --inputs"'),
    "pillsnap pipeline --out ": (FIVE_MINUTES, '"pillsnap pipeline --out ship/"'),
    "pillsnap serve --port 8000": (FIVE_MINUTES, '"pillsnap serve --port 8000"'),
    "curl -s http": ("tests/serve/test_document.py", '"curl -s http"'),
    "pip install 'pillsnap[ray]'": ("tests/plugin/test_ray.py", '"--ray", "local"'),
}
# The same, and why no test runs it.
NOT_RUN = {
    "git clone <this repository>": "installs 5.5 GB; `make gate` is what CI of a clone begins with",
    "make gate  ": "installs 5.5 GB, and runs this test",
    "uv venv -p 3.11": "installs two environments more; done before a release",
    "pip install 'pillsnap[headless,gpu,ray]'": "installs, on every node of a cluster",
    "ray start --head": "machines of a cluster; tests/plugin/ray_nodes.py starts two nodes here",
    "pillsnap gate -m full --provider cuda": "GPUs of a cluster; tests/plugin/test_ray.py has none",
}
# What a command of the gate stands for, made here.
FILES = ("model.onnx", "best.onnx", "mine.yaml", "DIR")
IR = "best_openvino_model"
REPORTS = "REPORT"


def anchors(document: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    lines = document.read_text(encoding="utf-8").splitlines()
    titles = (line.lstrip("#").strip().lower() for line in lines if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    document = ROOT / name
    for name, anchor in LINK.findall(document.read_text(encoding="utf-8")):
        place = (document.parent / name).resolve() if name else document
        assert place.exists(), name
        assert not anchor or anchor in anchors(place), f"{name}#{anchor}"


def test_every_document_is_found_from_the_first_page() -> None:
    linked = {name for name, _ in LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {*DOCUMENTS} - {"README.md"} <= linked


def test_every_block_of_a_shell_is_run_or_it_is_said_why_not() -> None:
    known = {**RUN, **NOT_RUN}
    used = set()
    for document in DOCUMENTS:
        for found in shell_blocks(document):
            start = [each for each in known if found.startswith(each)]
            assert len(start) == 1, f"{document}: {found}"
            used.update(start)
    assert used == known.keys()
    for test, what in RUN.values():
        assert what in (ROOT / test).read_text(encoding="utf-8"), test


@pytest.mark.parametrize(
    ("document", "command"), [(name, found) for name in DOCUMENTS for found in commands(name)]
)
def test_every_command_asks_for_what_is_there(
    document: str, command: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    words = shlex.split(command)
    program = " ".join(words[:2])
    if words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        (asked,) = re.findall(r"\[(.*)\]", command)
        assert {*asked.split(",")} <= extras["optional-dependencies"].keys()
    elif words[0] == "make":
        targets = re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text())
        assert {*words[1:]} <= {*targets}
    elif program == "python -m":
        assert importlib.util.find_spec(words[2].partition(":")[0]) is not None
    elif words[0] in ("python", "bash"):
        assert (ROOT / words[1]).is_file()
    elif words[0] == "pillsnap" and words[1] != "gate":
        assert words[1] in COMMANDS
    else:
        for name in (IR, REPORTS):
            (tmp_path / name).mkdir()
        for name in (*FILES, f"{IR}/best.xml", f"{IR}/best.bin"):
            (tmp_path / name).touch()
        for name in (*FILES, IR, REPORTS):
            command = re.sub(rf"(?<=[= ]){re.escape(name)}\b", str(tmp_path / name), command)
        words = shlex.split(command)[2 if words[0] == "pillsnap" else 1 :]
        given, unknown = pytestconfig._parser.parse_known_and_unknown_args(words)
        assert not unknown
        select(given)
        marks = {*MODES, "proof", "slow or not slow"} if given.markexpr else set[str]()
        assert named_modes(given.markexpr or "smoke") <= {*MODES} and (
            not given.markexpr or given.markexpr in marks
        )
        assert all((ROOT / path).exists() for path in given.file_or_dir)


def test_the_fault_of_onnx_runtime_shows_as_it_is_written() -> None:
    # Where a version has mended it, the text is no longer true.
    (script,) = fenced("docs/zoo.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    faulty, right = done.stdout.splitlines()
    assert faulty == "[] [-1. -1. -1. -1.]"
    assert right == "['Pad_Fusion', 'PadFusion'] [-1.  0.  0.  0.]"
