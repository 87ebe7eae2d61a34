"""The score of the proof is collected from the items, with workers and without."""

from __future__ import annotations

import json

import pytest

from pillsnap.config.cells import STAGES
from pillsnap.config.settings import Config, Paths
from pillsnap.engines.torch.checkpoints import checkpoint_paths
from tests.plugin.project import Project

ITEMS = """
import pytest
from pillsnap.config.cells import STAGES
from pillsnap.plugin.scoreboard import EXPLAINED, HEALTHY, LOCATED, SMALLEST, STAGED, TRIAL
from pillsnap.proof.explain_faults import EXPLAINABLE
from pillsnap.proof.catalogue import FAULTS
from pillsnap.proof.healthy import HEALTHY as CASES
from pillsnap.proof.stage_faults import STAGE_FAULTS
from pillsnap.proof.trial import PROFILES, SIZES, Trial

pytestmark = pytest.mark.proof


@pytest.mark.parametrize("part", range(2))
def test_faults(request, part):
    for fault in FAULTS[part::2]:
        for size in SIZES:
            for profile in PROFILES:
                facts = (fault.name, fault.group, fault.stage, fault.magnitude, fault.blind)
                caught = profile == "strict"
                figures = ("mse_mean",) if caught else ()
                trial = Trial(*facts, size, profile, 1, "breach", caught, figures, "why", 0.1)
                request.node.user_properties.append((TRIAL, trial.as_dict()))


def test_others(request):
    for case in CASES:
        request.node.user_properties.append((HEALTHY, {"id": case.id, "alarms": []}))
    for stage in STAGES:
        request.node.user_properties.append((SMALLEST, {"stage": stage, "of_any": 0.001}))
        request.node.user_properties.append((LOCATED, {"stage": stage, "nodes": 9, "named": 8}))
    for fault in STAGE_FAULTS:
        request.node.user_properties.append((STAGED, {"fault": fault.name, "right": True}))
    for fault in EXPLAINABLE:
        request.node.user_properties.append((EXPLAINED, {"fault": fault.id, "right": True}))
"""


@pytest.fixture
def proof(project: Project) -> Project:
    (project.path / "tests" / "test_items.py").write_text(ITEMS)
    for stage in STAGES:
        checkpoint, *_ = checkpoint_paths(Config(paths=Paths(project.path / "exp")), stage)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.touch()
    return project


@pytest.mark.parametrize("workers", [(), ("-n", "0"), ("-n", "2")])
def test_a_whole_proof_is_printed_and_written(proof: Project, workers: tuple[str, ...]) -> None:
    result = proof.run("-m", "proof", *workers, engine=None)
    assert result.ret == 0
    path = proof.path / "exp" / "export" / "proof_report.json"
    report = json.loads(path.read_text())
    assert report["caught_strict"] == report["faults"] >= 40
    assert (report["nodes"], report["located"]) == (18, 16)
    assert report["stages_right"] == report["stage_faults"] > 20
    assert report["causes_right"] == report["causes"] > 40
    assert report["caught_practical"] == report["false_alarms"] == 0
    result.stdout.fnmatch_lines(["*= pillsnap proof =*", "group *", "all *", f"report: {path}"])
    # The proof is no run of the gate.
    assert not proof.report_path.exists()


def test_a_part_of_the_proof_does_not_replace_a_report(proof: Project) -> None:
    result = proof.run("-m", "proof", "-k", "others", engine=None)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*= pillsnap proof =*", "a part of the proof*"])
    assert not (proof.path / "exp" / "export" / "proof_report.json").exists()


def test_a_report_that_cannot_be_written_is_exit_3(proof: Project) -> None:
    (proof.path / "exp" / "export").write_text("in the way")
    result = proof.run("-m", "proof", engine=None)
    assert result.ret == 3
    result.stdout.fnmatch_lines(["*cannot write*"])


def test_other_runs_say_nothing_of_it(proof: Project) -> None:
    result = proof.run("-m", "smoke", "--stage", "classification")
    result.stdout.no_fnmatch_line("*pillsnap proof*")
