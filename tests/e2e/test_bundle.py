"""A golden bundle: written by one run, and enough for another without torch and without data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.demo_project import DemoProject

MISSING = ("torch", "torchvision", "timm", "ultralytics")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> DemoProject:
    """A project whose smoke gate has written path/bundle; yours to read."""
    project = DemoProject(tmp_path_factory.mktemp("saved"))
    project.settings["export"]["compare"].update(sample_count=12, batch_size=4, shard_size=8)
    project.write_config()
    done = gate(project, "-n", "2", f"--save-reference={project.path / 'bundle'}")
    assert done.returncode == 0, done.stdout
    return project


def gate(project: DemoProject, *options: str) -> Any:
    usual = ("-m", "smoke", "--provider", "cpu", "--threads", "1")
    return project.run("pytest", *usual, *options, f"--config={project.config}")


def elsewhere(saved: DemoProject, folder: Path) -> DemoProject:
    """The config on a machine that has neither torch nor checkpoints nor images."""
    other = DemoProject(folder)
    shutil.rmtree(other.exp_dir)
    other.settings = {
        **saved.settings,
        "paths": {"exp_dir": str(other.exp_dir)},
        "data": {"val": {"single": str(folder / "none")}},
    }
    other.write_config()
    text = (folder / "conftest.py").read_text().splitlines()[-1]
    hidden = "\n".join(f"sys.modules[{name!r}] = None" for name in MISSING)
    (folder / "conftest.py").write_text(f"import sys\n{hidden}\n{text}\n")
    return other


def candidates(saved: DemoProject, bundle: Path) -> list[str]:
    models = [
        f"--candidate={s}={saved.out_dir}/latest_{s}.onnx" for s in ("detection", "classification")
    ]
    return [f"--reference={bundle}", *models]


def test_the_same_figures_without_torch_checkpoints_and_images(
    saved: DemoProject, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = elsewhere(saved, tmp_path / "other")
    shutil.copytree(saved.path / "bundle", tmp_path / "copied")
    # Cut into other shards, the batches stay the same.
    other.settings["export"]["compare"]["shard_size"] = 4
    # The bundle knows its preprocessing; timm, which knows the backbone's, is not here.
    other.settings["classification"] = {**saved.settings["classification"], "mean": None}
    other.write_config()
    done = gate(other, *candidates(saved, tmp_path / "copied"))
    assert done.returncode == 0, done.stdout
    here, there = saved.report(), other.report()
    for ours, theirs in zip(here["cells"], there["cells"], strict=True):
        assert theirs["verdict"] == ours["verdict"] == "equivalent"
        assert theirs["samples"] == ours["samples"] == 12
        for row in ours["metrics"].get("boundary_cases", []):  # no class map, no names
            row.update(reference_class_name=None, candidate_class_name=None)
        different = {
            name
            for name, value in ours["metrics"].items()
            if theirs["metrics"][name] != value and name != "classes_available"
        }
        assert different == set()
    fingerprints = [report["provenance"]["data_fingerprint"] for report in (here, there)]
    assert fingerprints[0] == fingerprints[1]


def test_a_candidate_that_differs_is_a_breach(saved: DemoProject, tmp_path: Path) -> None:
    other = elsewhere(saved, tmp_path)
    made = gate(
        saved, "--stage", "classification", "--precision", "int8", "--int8-method", "dynamic"
    )
    assert made.returncode in (0, 1), made.stdout
    (path,) = saved.out_dir.glob("classification-*-int8-dynamic.onnx")
    bundle = f"--reference={saved.path / 'bundle'}"
    done = gate(other, bundle, f"--candidate=classification={path}")
    assert done.returncode == 1, done.stdout
    assert other.report()["cells"][0]["verdict"] == "breach"


def cut_off(bundle: Path) -> None:
    path = next(bundle.glob("classification*.output.npy"))
    path.write_bytes(path.read_bytes()[:-4])


def lost(bundle: Path) -> None:
    next(bundle.glob("classification*.input.npy")).unlink()


@pytest.mark.parametrize(
    ("damage", "message"), [(cut_off, "not what its manifest says"), (lost, "cannot read")]
)
def test_a_damaged_bundle_is_named(
    saved: DemoProject, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    (tmp_path / "other").mkdir()
    other = elsewhere(saved, tmp_path / "other")
    shutil.copytree(saved.path / "bundle", tmp_path / "copied")
    damage(tmp_path / "copied")
    done = gate(other, *candidates(saved, tmp_path / "copied"))
    assert done.returncode == 1
    assert message in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--reference=nowhere", "--candidate=classification={model}"), "cannot be read"),
        (("--reference={bundle}",), "a bundle verifies candidates"),
        (
            ("--reference={bundle}", "--candidate=classification={model}", "--stage=detection"),
            "--candidate STAGE=PATH for every stage",
        ),
        (
            ("--reference={bundle}", "--candidate=classification={model}", "--engine=torch"),
            "engine onnx or tensorrt",
        ),
        (
            ("--reference={bundle}", "--candidate=classification={model}", "--save-reference=x"),
            "makes no other bundle",
        ),
    ],
)
def test_wrong_options(
    saved: DemoProject, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    other = elsewhere(saved, tmp_path)
    values = {
        "bundle": saved.path / "bundle",
        "model": saved.out_dir / "latest_classification.onnx",
    }
    done = gate(other, *(option.format(**values) for option in options))
    assert done.returncode == 4, done.stdout
    assert message in done.stderr + done.stdout
