"""A gate that was asked for has measured what it was asked for, or it has not passed."""

from __future__ import annotations

import pytest

from tests.plugin.project import Project, Workers

DETECTION = "detection-numpy-auto-fp32-smoke"

# As if a library or the checkpoint of one stage were not there.
WITHOUT_DETECTOR = """
from pillsnap.core.errors import MissingCheckpoint
import tests.plugin.numpy_engine as numpy_engine
usual = numpy_engine.open_reference
def open_reference(request, watch):
    if request.cell.stage == "detection":
        raise MissingCheckpoint("there is no detection checkpoint")
    return usual(request, watch)
numpy_engine.open_reference = open_reference
"""


@pytest.fixture
def half(project: Project) -> Project:
    """A project of both stages whose detector is not there."""
    project.write_fault(WITHOUT_DETECTOR)
    return project


def test_a_stage_that_was_not_measured_is_no_pass(half: Project, workers: Workers) -> None:
    result = half.run("-m", "smoke", *workers)
    assert result.ret == 1
    report = half.report()
    gate = report["gate"]
    assert [cell["verdict"] for cell in report["cells"]] == ["equivalent"]
    assert (gate["verdict"], gate["exit_code"], gate["complete"]) == ("inconclusive", 1, True)
    assert gate["unmeasured"] == [DETECTION]
    assert "gate: inconclusive, complete, exit code 1" in result.outlines
    assert f"NOT MEASURED {DETECTION}" in result.stdout.str()


def test_what_is_asked_for_by_name_is_asked_for(half: Project) -> None:
    assert half.run("-m", "smoke", "--stage", "classification").ret == 0
    assert half.report()["gate"]["unmeasured"] == []
    assert half.run("-m", "smoke", "-k", "classification").ret == 0  # the other was not collected
    half.settings["data"]["val"]["combo"] = None
    half.write_config()
    stages = ("--stage", "detection", "--stage", "classification")
    assert half.run("-m", "smoke", *stages).ret == 1
    assert half.report()["gate"]["unmeasured"] == [DETECTION]


def test_a_project_of_one_stage_passes_with_what_it_has(half: Project) -> None:
    half.settings["data"]["val"]["combo"] = None
    half.write_config()
    result = half.run("-m", "smoke")
    assert result.ret == 0
    gate = half.report()["gate"]
    assert (gate["verdict"], gate["unmeasured"]) == ("equivalent", [])
    assert [name.startswith(DETECTION) for name in gate["skipped"]] == [True]
    # The command that repeats the run asks for no more.
    assert "--stage" not in half.report()["provenance"]["command"]
    # A checkpoint that lies there is to be measured, data or not.
    checkpoint = half.path / "exp" / "checkpoints" / "detection_best.pt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    assert half.run("-m", "smoke").ret == 1
    assert half.report()["gate"]["unmeasured"] == [DETECTION]


def test_a_plain_run_may_skip_a_stage(half: Project) -> None:
    half.write_fault(
        # Not before pytest has loaded the plugin by itself, but before it makes its state.
        WITHOUT_DETECTOR + "import pytest\n@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_configure():\n"
        "    from dataclasses import replace\n"
        "    from pillsnap.plugin import state\n"
        "    select = state.select\n"
        '    state.select = lambda given: replace(select(given), engines=("numpy",))\n'
    )
    result = half.run(engine=None)
    assert result.ret == 0
    gate = half.report()["gate"]
    assert (gate["verdict"], gate["unmeasured"]) == ("equivalent", [])
    assert len(gate["skipped"]) == 3
