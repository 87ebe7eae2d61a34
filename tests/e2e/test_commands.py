"""Every command of the gate that a document tells to run, run as it is written there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.documents import DOCUMENTS, commands
from tests.e2e.demo_project import DemoProject

pytestmark = pytest.mark.slow

# By a word of the command, what it needs that is not here.
NEEDS = {
    "tensorrt": "a GPU",
    "cuda": "a GPU",
    "ray": "nodes: tests/plugin/test_ray.py",
    "best_openvino_model": "a folder of ultralytics' export: tests/plugin/test_candidates.py",
    "proof": "a quarter of an hour: tests/proof",
}
# Options by which a run of few images, or on a busy machine, may well fail.
MAY_FAIL = {"--gate-strict", "--perf-budget"}
PILLSNAP = "import sys; from pillsnap.plugin.command import main; sys.exit(main())"
FORMS = {"pytest": 1, "pillsnap gate": 2}


def listed() -> Iterator[str]:
    for name in DOCUMENTS:
        for command in commands(name):
            gate = any(f"{command} ".startswith(f"{form} ") for form in FORMS)
            if gate and "tests/" not in command:
                yield command


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> DemoProject:
    """A project of few images, with a report, a bundle and the files that commands name."""
    project = DemoProject(tmp_path_factory.mktemp("commands"))
    project.settings["export"]["compare"].update(
        sample_count=8, batch_size=4, shard_size=4, per_class_k=1, max_total=8, hard_per_bin=0
    )
    project.settings["export"]["quantize"].update(calibration_images=4)
    few = {"single": project.path / "photos", "combo": project.path / "scenes"}
    for number, photo in enumerate(sorted((project.images / "single").glob("*/*.png"))[::30]):
        target = few["single"] / photo.parent.name / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, target)
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        (few["combo"] / kind).mkdir(parents=True)
        for scene in sorted((project.images / "combo" / kind).glob(f"*.{suffix}"))[:16]:
            shutil.copy(scene, few["combo"] / kind)
    project.settings["data"]["val"] = {
        "single": str(few["single"]),
        "combo": {name: str(few["combo"] / name) for name in ("images", "labels")},
    }
    project.write_config()
    done = project.run("pytest", "-m", "coverage", "--save-reference=DIR", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copy(project.out_dir / "latest_classification.onnx", project.path / "model.onnx")
    transposed(project.out_dir / "latest_detection.onnx", project.path / "best.onnx")
    shutil.copy(project.out_dir / "export_report.json", project.path / "REPORT")
    return project


def transposed(source: Path, target: Path) -> None:
    """A detector's file in ultralytics' layout, [N,boxes,4+classes] of centres and sizes."""
    model = onnx.load(source)
    graph = model.graph
    # x1, y1, x2, y2, score, class 0 -> centre, size, score
    half = np.zeros((6, 5), np.float32)
    half[[0, 2], 0], half[[1, 3], 1] = 0.5, 0.5
    half[[0, 2], 2], half[[1, 3], 3], half[4, 4] = (-1, 1), (-1, 1), 1
    graph.initializer.append(numpy_helper.from_array(half, "to_centres"))
    graph.node.append(
        helper.make_node("MatMul", [graph.output[0].name, "to_centres"], ["centres"], name="last")
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("centres", TensorProto.FLOAT, ["N", "b", 5]))
    del model.metadata_props[:]
    onnx.save(model, target)


@pytest.mark.parametrize("command", dict.fromkeys(listed()))
def test_the_command_does_what_it_says(command: str, gated: DemoProject) -> None:
    for word, what in NEEDS.items():
        if re.search(rf"\b{word}\b", command):
            pytest.skip(f"needs {what}")
    words = shlex.split(command)
    form = "pillsnap gate" if words[0] == "pillsnap" else "pytest"
    options = words[FORMS[form] :]
    if form == "pytest":
        done = gated.run("pytest", *options, "-q")
    else:
        line = [sys.executable, "-c", PILLSNAP, "gate", *options, "-q"]
        done = subprocess.run(line, cwd=gated.path, capture_output=True, text=True, check=False)
    assert done.returncode in ((0, 1) if MAY_FAIL & {*options} else (0,)), done.stdout + done.stderr
    assert "\ngate: " in done.stdout
