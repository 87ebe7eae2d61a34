"""A small project around the numpy engine, and real inner pytest sessions in it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from pillsnap.report import SCHEMA_PATH

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from numpy_engine import COLOURS  # noqa: E402  # the folder is no package

WORKERS = {"none": (), "n0": ("-n", "0"), "n2": ("-n", "2")}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PILLSNAP_CONFIG", "OPSET", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=WORKERS)
def workers(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Every plugin test runs without xdist, with -n 0 and with -n 2."""
    return WORKERS[request.param]


@dataclass
class Project:
    """A folder with config, images and a conftest that registers the numpy engine."""

    pytester: pytest.Pytester
    path: Path
    settings: dict[str, Any]

    def write_config(self) -> None:
        (self.path / "config.yaml").write_text(yaml.safe_dump(self.settings))

    def write_fault(self, source: str) -> None:
        """Python source of `def fault(stage, batch, output)`."""
        (self.path / "conftest.py").write_text(
            f"import sys\nsys.path.insert(0, {str(HERE)!r})\n"
            "import numpy as np\nfrom numpy_engine import register_numpy\n"
            f"{source}\n"
            "register_numpy(fault)\n"
            'pytest_plugins = ["pillsnap.plugin"]\n'
        )

    def run(self, *args: str, engine: str | None = "numpy") -> pytest.RunResult:
        options = ("--engine", engine) if engine else ()
        return self.pytester.runpytest_subprocess("-p", "no:cacheprovider", *options, *args)

    @property
    def report_path(self) -> Path:
        return self.path / "exp" / "export" / "export_report.json"

    def report(self) -> dict[str, Any]:
        """The run's report, held to its schema."""
        report: dict[str, Any] = json.loads(self.report_path.read_text())
        check_schema(report)
        return report


def check_schema(report: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA_PATH.read_text())
    jsonschema.Draft202012Validator(schema).validate(report)


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    return make_project(pytester)


@pytest.fixture
def make(pytester: pytest.Pytester) -> Callable[..., Project]:
    return lambda **changes: make_project(pytester, **changes)


def make_project(pytester: pytest.Pytester, **compare: Any) -> Project:
    path = pytester.path
    _draw_singles(path / "single")
    _draw_scenes(path / "combo")
    (path / "class_map.json").write_text(json.dumps({f"K-{i}": i for i in range(4)}))
    (path / "tests").mkdir()
    shutil.copy(HERE.parent / "test_export_compare.py", path / "tests")
    (path / "pytest.ini").write_text(
        '[pytest]\naddopts = -m "not (coverage or full or slow)" --strict-markers\n'
        "testpaths = tests\nfilterwarnings = error\n"
    )
    settings = {
        "paths": {"exp_dir": "exp"},
        "data": {
            "val": {
                "single": "single",
                "combo": {"images": "combo/images", "labels": "combo/labels"},
            },
            "class_map": "class_map.json",
        },
        "classification": {"num_classes": 4},
        "export": {
            "input_shape": {"detection": [1, 3, 64, 64], "classification": [1, 3, 16, 16]},
            "compare": {"sample_count": 12, "batch_size": 2, "shard_size": 4, **compare},
        },
    }
    project = Project(pytester, path, settings)
    project.write_config()
    project.write_fault("from numpy_engine import healthy as fault")
    return project


def _draw_singles(folder: Path) -> None:
    for index, colour in enumerate(COLOURS):
        (folder / f"K-{index}").mkdir(parents=True)
        for number in range(6):
            shade = np.clip(colour * (0.8 + 0.04 * number), 0, 1)
            pixels = np.full((20, 20 + number, 3), shade * 255, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"K-{index}" / f"{number}.png")


def _draw_scenes(folder: Path) -> None:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(12):
        image = Image.new("RGB", (64, 64), (20, 20, 20))
        line = ""
        if number:  # the first scene shows nothing
            size = 12 + 4 * number
            left, top = number, 2 * (number % 3)
            box = (left, top, min(left + size, 63), min(top + size, 63))
            ImageDraw.Draw(image).rectangle(box, fill="white")
            x1, y1, x2, y2 = box[0], box[1], box[2] + 1, box[3] + 1
            values = ((x1 + x2) / 128, (y1 + y2) / 128, (x2 - x1) / 64, (y2 - y1) / 64)
            line = "0 " + " ".join(f"{value:.6f}" for value in values) + "\n"
        image.save(folder / "images" / f"{number:02d}.png")
        (folder / "labels" / f"{number:02d}.txt").write_text(line)
