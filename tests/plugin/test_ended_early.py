"""Runs that are ended before pytest, or the gate, sees to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.plugin.project import ROOT, WITHOUT, Project, heed_interrupts

LINE = "from pillsnap.testing import test_equivalence\n"


def test_code_that_ends_the_process_has_not_passed(project: Project) -> None:
    """Whatever code it ends with; not what it forks."""
    project.write_fault(
        """
import os
def fault(stage, batch, output):
    if not os.fork():
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    if stage == "classification":
        os._exit(0)
    return output
"""
    )
    result = project.run("-m", "smoke")
    assert result.ret == 3
    assert "the gate was ended by os._exit(0) before it had a verdict" in result.stderr.str()
    assert not project.report_path.exists()


def test_an_interrupt_while_pytest_starts_is_no_traceback(project: Project) -> None:
    with (project.path / "conftest.py").open("a") as file:
        file.write("import time\nprint('here', file=sys.__stderr__, flush=True)\ntime.sleep(60)\n")
    code = "import sys; from pillsnap.plugin.command import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "gate", *WITHOUT, "-s"],
        cwd=project.path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 2
    assert said == "interrupted\n"


def test_a_forgotten_plugin_is_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_gate=LINE)
    pytester.makeini("[pytest]\n")
    result = pytester.runpytest_subprocess("-m", "smoke", *WITHOUT)
    assert result.ret == 2
    shown = result.stdout.str()
    assert "the plugin that runs its item is not loaded" in shown
    assert "addopts = -p pillsnap.plugin" in shown
    assert "Traceback" not in shown
