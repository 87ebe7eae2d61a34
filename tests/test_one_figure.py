"""A figure is one line: what is judged, certified and shown of it comes from there."""

from __future__ import annotations

import subprocess
import sys

# The line is added before anything is made of the others, as a line of the file would be.
CHILD = """
from pydantic import TypeAdapter

import pillsnap.config.figures as lines

lines.FIGURES += (
    lines.Figure(
        "kl_mean",
        "classification",
        "mean KL divergence of the probabilities, in nats",
        label="KL",
        limits={"strict": 0.25},
        noise=0.125,
        certified=lines.Certification("diverged", " pills", ("bad",), ("all",)),
    ),
)

from pillsnap.compare.certify import in_words
from pillsnap.compare.figures import Figures
from pillsnap.compare.verdict import certified, judge
from pillsnap.config.settings import Config
from pillsnap.config.tolerances import Profiles
from pillsnap.report.rows import cell_row

profiles = Profiles()
known = TypeAdapter(Config).json_schema()["$defs"]["Tolerances"]["properties"]["kl_mean"]
print(known["description"])


def verdict(value):
    figures = Figures({"non_finite": 0, "kl_mean": value, "bad": 1, "all": 9}, None, ())
    return judge(figures, profiles, "strict")


print([verdict(value).name for value in (0.125, 0.25, 0.5)], verdict(0.5).reason)
print(in_words("kl_mean", certified({"bad": 1, "all": 9}, profiles.strict)["kl_mean"]))
cell = dict.fromkeys(
    (
        *("accuracy", "execution", "layout", "batching", "graph", "quantized", "performance"),
        *("diagnosis", "sensitivity"),
    )
)
cell |= {"id": "c", "stage": "classification", "verdict": "equivalent", "samples": 9}
cell |= {"seconds": 1.0, "metrics": {"kl_mean": 0.5}, "tolerances": {"kl_mean": 0.25}}
cell |= {"certified": {}}
print(cell_row(cell)[1])
"""


def test_one_more_line_is_in_the_schema_judged_certified_and_shown() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == [
        "mean KL divergence of the probabilities, in nats. null: not judged",
        "['equivalent', 'within_tolerance', 'breach'] kl_mean 0.5 > 0.25",
        "1 of 9 diverged: certifies 43 %; 25 % needs 18 pills and no further one",
        "  KL 0.5/0.25",
    ], done.stderr
