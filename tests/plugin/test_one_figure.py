"""A figure is one line: its tolerance, verdict, certified bound and place in the row come of it."""

from __future__ import annotations

import json

from pillsnap.config.figures import FIGURES
from tests.plugin.project import ROOT, Project

# Added before anything is made of the others, as a line of the file would be.
LINE = """
import pillsnap.config.figures as lines
lines.FIGURES += (
    lines.Figure(
        "kl_mean",
        "classification",
        "mean KL divergence of the probabilities, in nats",
        label="KL",
        most=9.0,
        limits={"strict": 0.25},
        noise=0.125,
        certified=lines.Certification(
            "wrong", " photos", ("top1_judged_flips",), ("top1_judged_samples",)
        ),
    ),
)
"""
FAULT = """
def fault(stage, batch, output):
    return output * np.float32(1.5)
"""


def test_one_more_line_is_a_key_judged_certified_and_shown(project: Project) -> None:
    assert "kl_mean" not in {figure.name for figure in FIGURES}
    project.settings["export"]["compare"]["tolerances"] = {
        "strict": {"kl_mean": 5e-4, "mse_mean": None, "mse_p99": None, "exactness": None}
    }
    project.write_config()
    project.write_fault(FAULT)
    hooks = project.path / "conftest.py"
    hooks.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{LINE}{hooks.read_text()}")
    project.fork = False  # its line comes before pillsnap is imported
    args = ("-m", "smoke", "--stage", "classification")
    result = project.run(*args)
    assert result.ret == 1
    (cell,) = json.loads(project.report_path.read_text())["cells"]
    assert [breach["figure"] for breach in cell["breaches"]] == ["kl_mean"]
    assert cell["tolerances"]["kl_mean"] == 5e-4
    assert cell["certified"]["kl_mean"]["trials"] == 12
    # A row is cut to 80 columns between its words.
    lines = ["*BREACH*kl_mean*", "*[0-9]/0.0005*", "*0 of 12 wrong*needs 5,990 photos*"]
    result.stdout.fnmatch_lines(lines)

    project.settings["export"]["compare"]["tolerances"] = {"strict": {"kl_mean": 10}}
    project.write_config()
    result = project.run(*args)
    result.stderr.fnmatch_lines(["*strict.kl_mean cannot be this*", "*from 0.0 to 9.0*"])
