"""latest_<stage>.onnx leads to what the gate has passed, and to nothing else."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.file_engine import CUT, TAGS, install
from tests.plugin.project import Project, Workers

CLASSIFIER = ("--stage", "classification")


@pytest.fixture
def shop(project: Project) -> Project:
    """A project whose engine makes files; all of them are healthy."""
    install(project)
    return project


def retrain(project: Project, stage: str, content: str, tag: str = TAGS[1]) -> None:
    (project.path / "exp" / "checkpoints" / f"{stage}_best.pt").write_text(content)
    (project.path / "exp" / "tag").write_text(tag)


def run(project: Project, *options: str) -> tuple[int, dict[str, Any]]:
    result = project.run("-m", "smoke", *options, engine="files")
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    return int(result.ret), project.report()


def latest(project: Project) -> dict[str, str | None]:
    """Where the links lead, by stage."""
    links = project.report_path.parent.glob("latest_*.onnx")
    return {link.stem.removeprefix("latest_"): link.readlink().name for link in links}


def export(stage: str, tag: str = TAGS[0]) -> str:
    return f"{stage}-{tag}.onnx"


def notes(report: dict[str, Any], stage: str = "classification") -> list[str]:
    return [n for n in report["stages"][stage]["compare"]["notes"] if n.startswith("latest_")]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["none", "n2"])
def test_an_export_that_has_passed_is_the_latest(shop: Project, workers: Workers) -> None:
    code, report = run(shop, *workers)
    assert (code, latest(shop)) == (0, {s: export(s) for s in ("detection", "classification")})
    assert {s: Path(path).name for s, path in report["gate"]["latest"].items()} == latest(shop)
    assert [each["approved"] for each in report["gate"]["approvals"]] == [True, True]
    assert notes(report) == []


def test_a_breached_export_keeps_its_own_name(shop: Project) -> None:
    retrain(shop, "classification", "1.5", TAGS[0])
    code, report = run(shop)
    assert (code, latest(shop)) == (1, {"detection": export("detection")})
    assert report["gate"]["latest"]["classification"] is None
    assert notes(report) == [
        "latest_classification.onnx stays what it is: classification-files-auto-fp32-smoke, breach"
    ]
    by_stage = {each["stage"]: each for each in report["gate"]["approvals"]}
    assert by_stage["detection"]["approved"]
    assert not by_stage["classification"]["approved"]
    # Nor does it take the name from one that has passed.
    retrain(shop, "classification", "1", TAGS[0])
    assert run(shop)[0] == 0
    retrain(shop, "classification", "1.5")
    assert run(shop)[0] == 1
    assert latest(shop)["classification"] == export("classification")
    assert (shop.report_path.parent / export("classification", TAGS[1])).is_file()


def test_a_breach_that_leaves_no_figures_is_laid_to_its_file(shop: Project) -> None:
    retrain(shop, "classification", CUT, TAGS[0])
    code, report = run(shop, *CLASSIFIER)
    assert (code, latest(shop)) == (1, {})
    assert report["cells"][0]["metrics"] == {}
    (approval,) = report["gate"]["approvals"]
    assert (approval["sha256"], approval["approved"]) == (sha256(CUT.encode()).hexdigest(), False)
    assert approval["reason"] == "this run: classification-files-auto-fp32-smoke, breach"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--precision", "int8"), "no float32 export of it was judged"),
        (("-k", "s001of"), "classification-files-auto-fp32-smoke, inconclusive"),
        (("--gate-strict",), "classification-files-auto-fp32-smoke, breach"),
    ],
)
def test_an_export_that_was_not_judged_is_not_the_latest(
    shop: Project, options: tuple[str, ...], why: str
) -> None:
    _, report = run(shop, *CLASSIFIER, *options)
    assert latest(shop) == {}
    assert notes(report) == [f"latest_classification.onnx stays what it is: {why}"]


def test_a_candidate_of_ones_own_is_approved_and_not_the_latest(shop: Project) -> None:
    model, reports = shop.path / "model.onnx", shop.report_path.parent / "reports"
    model.write_text("1")
    shop.settings["export"]["reports_kept"] = 1
    shop.settings["export"]["compare"]["runs_kept"] = 1
    shop.write_config()
    (old := shop.path / "exp/runs/20240101-000000-nogit-000000").mkdir(parents=True)
    reports.mkdir(parents=True)
    (reports / "20240101-000000-nogit-smoke-000000.json").write_text("{}")
    code, report = run(shop, *CLASSIFIER, f"--candidate=classification={model}")
    assert (code, latest(shop), notes(report)) == (0, {}, [])
    (approval,) = report["gate"]["approvals"]
    assert (approval["path"], approval["approved"]) == (str(model), True)
    # Its report and its run are those that are kept, and the report stands in their index.
    assert not old.exists()
    (kept,) = reports.glob("*.json")
    assert json.loads(kept.read_text()) == report
    assert kept.name in reports.with_name(".reports.index").read_text()


def test_an_export_of_a_checkpoint_that_is_gone_is_not_the_latest(shop: Project) -> None:
    """As when another run has exported and published a newer one meanwhile."""
    checkpoint = shop.path / "exp" / "checkpoints" / "classification_best.pt"
    with (shop.path / "conftest.py").open("a") as file:
        file.write(
            "\ndef pytest_runtest_teardown():\n    import pathlib\n"
            f"    pathlib.Path({str(checkpoint)!r}).write_text('1.0')\n"
        )
    shop.settings["export"]["compare"]["shard_size"] = 100
    shop.write_config()
    code, report = run(shop, *CLASSIFIER)
    assert (code, latest(shop)) == (0, {})
    assert notes(report)[0].endswith("the checkpoint has changed since")


def test_a_link_that_cannot_be_made_fails_no_run(shop: Project) -> None:
    link = shop.report_path.parent / "latest_classification.onnx"
    link.mkdir(parents=True)
    result = shop.run("-m", "smoke", *CLASSIFIER, engine="files")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["warning: latest_ or pillsnap_pipeline.py could not be written:*"])


def test_a_breach_in_full_mode_outlasts_a_smoke_pass(shop: Project) -> None:
    assert run(shop, *CLASSIFIER)[0] == 0
    link = shop.report_path.parent / "latest_classification.onnx"
    link.unlink()
    # The same file breached in full mode before.
    (path,) = (shop.report_path.parent / "reports").glob("*.json")
    earlier = path.read_text().replace("-smoke", "-full")
    report = json.loads(earlier)
    report["cells"][0].update(verdict="breach", mode="full")
    report["provenance"]["started_at_utc"] = "2025-01-01T00:00:00Z"
    path.with_name("earlier.json").write_text(json.dumps(report))
    code, report = run(shop, *CLASSIFIER)
    assert (code, link.exists()) == (0, False)
    (approval,) = report["gate"]["approvals"]
    assert not approval["approved"]
    assert approval["reason"].startswith(
        "earlier.json: classification-files-auto-fp32-full, breach, with the same data"
    )
    # Other tolerances, another judgement.
    shop.settings["export"]["compare"]["tolerances"] = {"strict": {"prob_err_max": 0.01}}
    shop.write_config()
    run(shop, *CLASSIFIER)
    assert link.resolve().name == export("classification")
