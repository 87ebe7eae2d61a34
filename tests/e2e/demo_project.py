"""A project of its own around the demo's models and images."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from pillsnap.config.load import load_config
from pillsnap.demo.dataset import install
from pillsnap.report import SCHEMA_PATH
from tests.forked import HEAVY, forks

ROOT = Path(__file__).resolve().parents[2]


class DemoProject:
    """A folder with the demo's checkpoints, a config that can be changed, and the gate's test."""

    def __init__(self, path: Path) -> None:
        demo = load_config(ROOT / "config.yaml", {})
        install(demo.exp_dir)
        self.path = path
        self._hidden = False
        self.exp_dir = path / "exp"
        self.out_dir = self.exp_dir / "export"
        shutil.copytree(demo.exp_dir / "checkpoints", self.exp_dir / "checkpoints")
        data = demo.exp_dir / "demo_data"
        self.images = data / "val"
        self.settings: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
        self.settings["paths"]["exp_dir"] = str(self.exp_dir)
        self.settings["demo"] = False
        self.settings["data"] = {
            "val": {
                "single": str(data / "val/single"),
                "combo": {
                    "images": str(data / "val/combo/images"),
                    "labels": str(data / "val/combo/labels"),
                },
            },
            "class_map": str(data / "class_map.json"),
            "edi_map": str(data / "edi_map.json"),
        }
        (path / "tests").mkdir()
        shutil.copy(ROOT / "tests/test_export_compare.py", path / "tests")
        shutil.copy(ROOT / "conftest.py", path)
        shutil.copy(ROOT / "pytest.ini", path)
        self.write_config()

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    def write_config(self) -> None:
        self.config.write_text(yaml.safe_dump(self.settings))

    def report(self) -> dict[str, Any]:
        """The run's report, held to its schema."""
        report: dict[str, Any] = json.loads((self.out_dir / "export_report.json").read_text())
        jsonschema.Draft202012Validator(json.loads(SCHEMA_PATH.read_text())).validate(report)
        return report

    def hide_module(self, name: str) -> None:
        """Make importing a module fail in the project's runs, as if it were not installed."""
        self._hidden = True
        plugins = (self.path / "conftest.py").read_text().splitlines()[-1]
        lines = ["import sys", f"sys.modules[{name!r}] = None", plugins]
        (self.path / "conftest.py").write_text("\n".join(lines) + "\n")

    def patch(self, source: str) -> None:
        """Run these lines of Python before the plugin of the project's runs."""
        with (self.path / "conftest.py").open("a") as file:
            file.write(source)

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a module of Python in the project's folder."""
        words = list(command)
        if words[0] == "pytest":  # hypothesis takes a second to import, in every worker
            words[1:1] = ["-p", "no:hypothesispytest", "-p", "no:anyio"]
        if not options:
            return forks(*HEAVY).run(words, self.path, fork=not self._hidden)
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=self.path,
            capture_output=True,
            text=True,
            check=False,
            **options,
        )
