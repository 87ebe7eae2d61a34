"""Retrains the demo's checkpoints from nothing and measures them.

    python -m pillsnap.demo.training [--stage classification|detection|both] [--out DIR]

Needs no GPU and no network. Everything but the results stays in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from pillsnap.core.cpus import usable_cpus
from pillsnap.demo.dataset import write_validation
from pillsnap.demo.training.classifier import train_classifier
from pillsnap.demo.training.detector import keep_offline, train_detector
from pillsnap.demo.training.measure import measure_classifier, measure_detector

STAGES = ("classification", "detection")


def main(arguments: list[str] | None = None) -> int:
    """Trains the requested stages into --out; 0 when all is written."""
    options = _parse(arguments)
    stages = STAGES if options.stage == "both" else (options.stage,)
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pillsnap-demo-") as folder:
        work = Path(folder)
        keep_offline(work)
        data = work / "demo_data"
        write_validation(data)
        for stage in stages:
            started = time.monotonic()
            if not options.measure_only:
                if stage == "classification":
                    train_classifier(out, seed=options.seed, threads=options.threads)
                else:
                    train_detector(out, work, seed=options.seed, threads=options.threads)
                print(f"{stage}: trained in {(time.monotonic() - started) / 60:.1f} minutes")
            if stage == "classification":
                figures = measure_classifier(out / "classification_best.pt", data)
            else:
                figures = measure_detector(out / "detection_best.pt", data, work)
            _record(out / "figures.json", stage, figures)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pillsnap.demo.training",
        description="Retrain the demo's checkpoints from nothing and measure them.",
    )
    parser.add_argument("--stage", choices=(*STAGES, "both"), default="both")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("demo_checkpoints"),
        help="folder for the checkpoints and figures.json (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument(
        "--measure-only", action="store_true", help="measure the checkpoints in --out as they are"
    )
    return parser.parse_args(arguments)


def _record(path: Path, stage: str, figures: dict[str, float]) -> None:
    """Prints the stage's figures and puts them beside those of the other stage."""
    known = json.loads(path.read_text(encoding="ascii")) if path.exists() else {}
    path.write_text(json.dumps(known | {stage: figures}, indent=2) + "\n", encoding="ascii")
    for name, value in figures.items():
        print(f"{stage}: {name} {value}")


if __name__ == "__main__":
    raise SystemExit(main())
