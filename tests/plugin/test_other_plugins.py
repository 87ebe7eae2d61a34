"""The gate beside other plugins, as people have them: small ones that do what those do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.plugin.project import ROOT, Project, Workers

SINGLES = ("-m", "smoke", "--stage", "classification")
FLIPPED = "def fault(stage, batch, output):\n    return -output\n"

# pytest-asyncio, -benchmark and the cache of pytest warn at these places.
WARNS = """
import warnings, pytest
@pytest.hookimpl(trylast=True)
def pytest_configure():
    warnings.warn(pytest.PytestDeprecationWarning("a setting is missing"))
def pytest_collection_modifyitems():
    warnings.warn("while collecting")
def pytest_runtest_setup():
    warnings.warn("before an item")
def pytest_sessionfinish():
    warnings.warn("the cache cannot be written")
def pytest_terminal_summary():
    warnings.warn("in the summary")
"""

# pytest-randomly, -rerunfailures.
REORDERS_AND_RERUNS = """
import pytest
from _pytest.runner import runtestprotocol
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.reverse()
def pytest_runtest_protocol(item, nextitem):
    for report in runtestprotocol(item, nextitem=nextitem, log=False):
        report.outcome = "rerun"
        item.ihook.pytest_runtest_logreport(report=report)
    item._initrequest()
    runtestprotocol(item, nextitem=nextitem)
    return True
def pytest_report_teststatus(report):
    return ("rerun", "R", "RERUN") if report.outcome == "rerun" else None
"""

# pytest-benchmark --benchmark-only.
SKIPS = """
import pytest
def pytest_runtest_setup(item):
    if "s002of003" in item.nodeid:
        pytest.skip("not one of mine")
"""

# pytest-repeat.
REPEATS = """
import pytest
@pytest.fixture(autouse=True)
def _repeat(request):
    pass
def pytest_generate_tests(metafunc):
    metafunc.fixturenames.append("_repeat")
    metafunc.parametrize("_repeat", [1, 2], indirect=True)
"""

# pytest-custom-exit-code and pytest-rerunfailures --fail-on-flaky.
CHANGES_THE_EXIT_CODE = """
def pytest_sessionfinish(session):
    session.exitstatus = 7
"""

# What --junitxml does where it cannot write.
FAILS_AT_THE_END = """
def pytest_sessionfinish():
    raise OSError("cannot write what was asked for")
"""


def run(project: Project, plugin: str, *args: str) -> pytest.RunResult:
    """A run beside a plugin that was loaded before the gate's own, as installed ones are."""
    (project.path / "other_plugin.py").write_text(plugin)
    return project.run(*SINGLES, "-p", "other_plugin", *args)


@pytest.mark.parametrize("spread", [(), ("-n", "2")], ids=["none", "n2"])
def test_what_others_warn_of_is_no_verdict(
    project: Project, spread: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error::pytest.PytestDeprecationWarning")
    result = run(project, WARNS, "-W", "error", *spread)  # pytest.ini says error as well
    assert result.ret == project.report()["gate"]["exit_code"] == 0
    assert "INTERNALERROR" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*before an item*"])  # it is still listed


def test_items_may_be_reordered_and_run_again(project: Project) -> None:
    assert run(project, REORDERS_AND_RERUNS).ret == 0
    healthy = project.report()["cells"][0]["metrics"]
    assert healthy["samples"] == 12
    project.write_fault(FLIPPED)
    assert run(project, REORDERS_AND_RERUNS).ret == 1
    assert project.report()["gate"]["verdict"] == "breach"


def test_a_shard_that_another_plugin_skips_is_not_measured(project: Project) -> None:
    assert run(project, SKIPS).ret == 1
    gate = project.report()["gate"]
    assert (gate["verdict"], gate["complete"]) == ("inconclusive", True)
    assert list(gate["skipped"].values()) == ["Skipped: not one of mine"]


def test_repeated_items_are_none_of_the_gate(project: Project) -> None:
    result = run(project, REPEATS)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*plugins that rename items*"])


@pytest.mark.parametrize(
    ("plugin", "code"),
    [(CHANGES_THE_EXIT_CODE, 7), (FAILS_AT_THE_END, 1)],
    ids=["changed", "failed"],
)
def test_the_reports_exit_code_is_the_process_own(project: Project, plugin: str, code: int) -> None:
    result = run(project, plugin)
    gate = project.report()["gate"]
    assert (result.ret, gate["exit_code"], gate["verdict"]) == (code, code, "equivalent")
    result.stdout.fnmatch_lines([f"gate: equivalent, complete, exit code {code}"])
    (kept,) = (project.path / "exp/export/reports").glob("*.json")
    assert kept.read_bytes() == project.report_path.read_bytes()


def test_a_session_that_runs_no_items_is_no_run(project: Project) -> None:
    assert project.run(*SINGLES, "--fixtures").ret == 0
    assert not project.report_path.exists()
    assert not (project.path / "exp/runs").exists()


def test_without_assertions_the_gate_starts() -> None:
    """Under python -O pytest warns before any plugin is there: pytest.ini must not forbid it."""
    command = [sys.executable, "-O", "-m", "pytest", "-m", "smoke", "--collect-only", "-q"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2/" in done.stdout
