"""The installed wheel in a repository of one's own, which knows nothing of this clone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documents import block
from tests.plugin.project import ROOT, Project, check_schema
from tests.wheel import install_wheel

Run = Callable[..., subprocess.CompletedProcess[str]]

# Of a team's own: settings, a test, and a report that is logged.
PYTEST_INI = """[pytest]
addopts = -m "not slow" --strict-markers --strict-config
markers = slow: takes long
filterwarnings = error
testpaths = tests
python_functions = check_*
usefixtures = database
"""
CONFTEST = """
import json
from pathlib import Path
import pillsnap
from numpy_engine import register_numpy

def fault(stage, batch, output):
    return output
register_numpy(fault)

def pillsnap_report(report, path, config):
    worker = hasattr(config, "workerinput")
    facts = [report["gate"]["verdict"], path.name, worker, pillsnap.__file__]
    with open("log.jsonl", "a") as log:
        log.write(json.dumps(facts) + "\\n")
"""
FAILS = """
def pillsnap_report(report):
    report.clear()
    raise SystemExit("the server is down")
"""
OWN_TEST = "def check_own(): raise AssertionError('none of the gate')\n"
LINE = "from pillsnap.testing import test_equivalence\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed pillsnap."""
    site = tmp_path_factory.mktemp("site")
    install_wheel(tmp_path_factory.mktemp("source"), into=("--target", str(site)))
    return site


@pytest.fixture
def run(site: Path, project: Project) -> Run:
    """Run a command in a repository of one's own, with the installed pillsnap."""
    (project.path / "tests/test_export_compare.py").unlink()
    (project.path / "tests/test_own.py").write_text(OWN_TEST)
    (project.path / "pytest.ini").write_text(PYTEST_INI)
    (project.path / "conftest.py").write_text(CONFTEST)
    shutil.copy(ROOT / "tests/plugin/numpy_engine.py", project.path)
    binaries = (str(site / "bin"), str(Path(sys.executable).parent), os.environ["PATH"])
    usual = {**os.environ, "PYTHONPATH": str(site), "PATH": os.pathsep.join(binaries)}

    def run(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=project.path,
            env=usual | environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def steps(path: Path) -> dict[str, dict[str, Any]]:
    """The steps of an action or of a workflow's one job that have a name."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    (job,) = found["jobs"].values() if "jobs" in found else [found["runs"]]
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert ("shell" in step) == ("run" in step and "runs" in found)
        assert "${{" not in step.get("run", "")  # an input's text would be run
    return {step["name"]: step for step in job["steps"] if "name" in step}


def test_pillsnap_gate_needs_a_config_alone(project: Project, site: Path, run: Run) -> None:
    """No test file, and the settings, fixtures and tests that are there are others'."""
    # pytest would look beside a path for its ini file.
    (project.path / "bundle").mkdir()
    (project.path / "bundle/pytest.ini").write_text("[pytest]\naddopts = --nothing-of-this-name\n")
    options = ("-n", "2", "--engine", "numpy", "--save-reference", "bundle")
    done = run("pillsnap", "gate", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.report()["provenance"]["command"].startswith("pillsnap gate -m smoke --engine")
    assert (project.path / "bundle/manifest.json").is_file()
    # Once, on the controller, of the wheel.
    (line,) = (project.path / "log.jsonl").read_text().splitlines()
    used = str(site / "pillsnap/__init__.py")
    assert json.loads(line) == ["equivalent", "export_report.json", False, used]
    shown = run("pillsnap", "report")
    assert shown.returncode == 0
    assert done.stdout.endswith(shown.stdout)


def test_on_github_a_breach_is_an_annotation_and_the_summary_a_table(
    project: Project, run: Run
) -> None:
    text = CONFTEST.replace("return output\n", "return -output if stage[0] == 'c' else output\n")
    (project.path / "conftest.py").write_text(text + FAILS)
    steps_ = steps(ROOT / "action.yml")
    inputs = {"MODE": "smoke", "CONFIG": "config.yaml", "OPTIONS": "--engine numpy -q"}
    assert inputs.keys() == steps_["Gate"]["env"].keys()
    summary = project.path / "summary.md"
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    done = run("bash", "-e", "-c", steps_["Gate"]["run"], **inputs, **github)
    assert done.returncode == 1
    (error,) = [line for line in done.stdout.splitlines() if line.startswith("::")]
    name = "classification-numpy-auto-fp32-smoke"
    assert error.startswith(f"::error title=pillsnap gate%3A breach {name}::mse_mean ")
    assert "%0Aworst samples: K-" in error
    rows = [line for line in summary.read_text().splitlines() if line.startswith("| `")]
    assert [row.split("|")[3].strip() for row in rows] == ["equivalent", "breach"]
    assert f"**breach {name}**\n\n- mse\\_mean " in summary.read_text()
    # Whatever a hook does, the report stays and the verdict.
    assert f"pillsnap_report of {project.path}/conftest.py failed: SystemExit: the" in done.stdout
    assert project.report()["gate"]["verdict"] == "breach"


def test_the_hook_that_the_documents_show_for_mlflow(project: Project, run: Run) -> None:
    """Its file store: without a server or a database."""
    shown = block("docs/report.md", "import mlflow")
    (project.path / "conftest.py").write_text(CONFTEST.partition("def pillsnap_report")[0] + shown)
    store = {"MLFLOW_TRACKING_URI": f"file:{project.path}/mlruns", "MLFLOW_ALLOW_FILE_STORE": "1"}
    done = run("pillsnap", "gate", "--engine", "numpy", **store)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pillsnap_report" not in done.stdout
    (logged,) = project.path.glob("mlruns/0/*/")
    assert (logged / "tags/verdict").read_text() == "equivalent"
    (cell, _) = project.report()["cells"]
    _, value, _ = (logged / f"metrics/{cell['id']}/samples").read_text().split()
    assert float(value) == cell["samples"]
    assert json.loads((logged / "artifacts/export_report.json").read_text()) == project.report()


def test_one_line_in_a_test_file_does_the_same(project: Project, run: Run) -> None:
    (project.path / "pytest.ini").write_text(
        "[pytest]\ntestpaths = tests\naddopts = -p pillsnap.plugin -m 'not slow'\n"
    )
    gate = ("pytest", "-m", "smoke", "--engine", "numpy")
    none = run(sys.executable, "-m", *gate)
    assert none.returncode == 1
    assert "no test file here has the item of the gate" in none.stdout
    assert LINE in none.stdout
    assert "pillsnap gate -m smoke\n" in none.stdout
    (project.path / "tests/test_gate.py").write_text(LINE)
    (project.path / "tests/test_own.py").write_text("def test_own(): pass\n")
    # Plain pytest takes both, and of the gate what is quick.
    plain = run(sys.executable, "-m", "pytest").stdout
    assert "1 passed" in plain and "-fp32-smoke" in plain
    assert "-fp32-coverage" not in plain and "-fp32-full" not in plain
    done = run(sys.executable, "-m", *gate)
    assert done.returncode == 0, done.stdout
    assert project.report()["provenance"]["command"].startswith("pytest -m smoke")
    check_schema(project.report())


def test_the_workflow_runs_what_is_tested_here(site: Path) -> None:
    named = steps(site / "pillsnap/gate/init/workflow.yml")
    assert named["Gate"]["run"] == "pillsnap gate -m smoke"
    assert named["Install"]["run"] == "python -m pip install 'pillsnap[headless,cpu]'"


def test_marks_that_no_item_of_the_gate_has_are_refused(run: Run) -> None:
    for marks in ("nonsense", "not smoke", "smoke and slow"):
        wrong = run("pillsnap", "gate", "-m", marks, "--engine", "numpy")
        assert (wrong.returncode, wrong.stdout) == (4, "")
        assert f"got:      {marks}\n" in wrong.stderr
        assert "smoke, coverage, full" in wrong.stderr


def test_pillsnap_says_what_it_can(run: Run) -> None:
    wrong = run("pillsnap", "gat")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "invalid choice: 'gat' (choose from" in wrong.stderr
    assert run("pillsnap", "--version").stdout.startswith("pillsnap 0.")
    for command in ("gate", "infer", "report", "serve"):
        assert "--" in run("pillsnap", command, "--help").stdout
    none = run("pillsnap", "report", "nowhere.json")
    assert (none.returncode, none.stdout) == (2, "")
    assert none.stderr.startswith("error: the report cannot be read: No such file")
    assert "pillsnap gate" in none.stderr
    other = run("pillsnap", "report", "class_map.json")
    assert other.stderr.startswith("error: this is no report of this version of pillsnap\n")
