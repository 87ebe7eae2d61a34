"""A small project around the numpy engine, for real inner pytest sessions."""

from __future__ import annotations

import json
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from pillsnap.report import SCHEMA_PATH
from tests.forked import LIGHT, forks
from tests.plugin.numpy_engine import COLOURS

ROOT = Path(__file__).resolve().parents[2]

Workers = tuple[str, ...]

# Plugins that inner sessions do without: hypothesis takes a second to import, in every worker.
WITHOUT = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:anyio")


def heed_interrupts() -> None:
    """For a process that is to be interrupted: shells start background jobs deaf to SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Project:
    """A folder with config, images and a conftest that registers the numpy engine.

    Attributes:
        fork: whether sessions find pillsnap imported, see tests/forked.py.
    """

    pytester: pytest.Pytester
    path: Path
    settings: dict[str, Any]
    fork: bool = True

    def write_config(self) -> None:
        (self.path / "config.yaml").write_text(yaml.safe_dump(self.settings))

    def write_fault(self, source: str) -> None:
        """Python source of `def fault(stage, batch, output)`, and of `def watch(stage, batch)` if
        the reference's calls are of interest."""
        (self.path / "conftest.py").write_text(
            f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            "import numpy as np\n"
            "from tests.plugin.numpy_engine import NumpyEngine, healthy, register_numpy\n"
            f"fault, watch = healthy, None\n{source}\n"
            "register_numpy(fault, watch)\n"
            'pytest_plugins = ["pillsnap.plugin"]\n'
        )

    def run(self, *args: str, engine: str | None = "numpy") -> pytest.RunResult:
        options = ("--engine", engine) if engine else ()
        folder = self.pytester.mkdir(f"base-{len(list(self.path.glob('base-*')))}")
        words = ("pytest", f"--basetemp={folder}", *WITHOUT, *options, *args)
        started = time.monotonic()
        done = forks(*LIGHT).run(words, Path.cwd(), fork=self.fork)
        lines = (text.splitlines() for text in (done.stdout, done.stderr))
        return pytest.RunResult(done.returncode, *lines, time.monotonic() - started)

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


def make_project(pytester: pytest.Pytester, **compare: Any) -> Project:
    path = pytester.path
    _draw_singles(path / "single")
    _draw_scenes(path / "combo")
    (path / "class_map.json").write_text(json.dumps({f"K-{i}": i for i in range(4)}))
    (path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "test_export_compare.py", path / "tests")
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
    project.write_fault("")
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
