"""How long collecting the gate takes beyond what pytest itself takes.

    python benchmarks/collect.py [--project demo|full] [--n N] [--rounds 5]

`pytest --collect-only -q -m coverage` of a project against a bare pytest that collects one trivial
test of a folder of its own, whole processes, interleaved. Both load the plugins that are installed
(xdist among them).

    collect_seconds    median over the rounds of the difference of the two wall times

One more collection that is not timed lists what was imported: `heavy_imports` must be empty.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from projects import (
    ROOT,
    Project,
    argument_parser,
    gate_arguments,
    interleaved,
    machine,
    median,
    project_of,
    rounded,
    timed_process,
)

HEAVY = ("torch", "torchvision", "timm", "ultralytics", "onnx", "onnxruntime", "pycocotools")
# pytest with the arguments given, and then which of them were imported.
SPY = f"""
import sys, pytest
code = pytest.main(sys.argv[1:])
print("heavy imports:", *[name for name in {HEAVY!r} if name in sys.modules])
sys.exit(code)
"""


def main() -> int:
    parser = argument_parser(__doc__, project="demo", n=128)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    project = project_of(arguments)
    with tempfile.TemporaryDirectory() as name:
        bare = Path(name)
        (bare / "pytest.ini").write_text("[pytest]\n")
        (bare / "test_trivial.py").write_text("def test_trivial():\n    pass\n")
        # Once each, not timed: compiled files and the disk's cache belong to no side.
        collect_bare(bare)
        heavy, items = spy(project)
        gate, plain = interleaved(
            arguments.rounds, lambda: collect_gate(project), lambda: collect_bare(bare)
        )
    result = {
        "benchmark": "collect",
        "project": project.name,
        "items": items,
        "rounds": arguments.rounds,
        **machine(),
        "collect_seconds": round(median([a - b for a, b in zip(gate, plain, strict=True)]), 3),
        "gate_s": rounded(gate, 3),
        "bare_s": rounded(plain, 3),
        "heavy_imports": heavy,
    }
    print(json.dumps(result))
    return 0


def collect_gate(project: Project) -> float:
    return collected(["-m", "pytest", *gate_arguments(project, "coverage", "--collect-only")])[0]


def collect_bare(folder: Path) -> float:
    command = ["-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    return collected(command, cwd=folder)[0]


def spy(project: Project) -> tuple[list[str], int]:
    """Names of HEAVY that a collection imports, and the number of items that it finds."""
    arguments = gate_arguments(project, "coverage", "--collect-only")
    lines = collected(["-c", SPY, *arguments])[1].splitlines()
    (line,) = [line for line in lines if line.startswith("heavy imports:")]
    return line.split()[2:], sum("test_equivalence[" in line for line in lines)


def collected(arguments: list[str], *, cwd: Path = ROOT) -> tuple[float, str]:
    """Seconds and output of a Python that collects.

    Raises:
        SystemExit: it failed; its output goes to stderr.
    """
    ran = timed_process(arguments, cwd=cwd)
    done = ran.done
    if done.returncode != 0:
        print(done.stdout, done.stderr, file=sys.stderr)
        raise SystemExit(f"pytest ended with exit code {done.returncode}")
    return ran.seconds, done.stdout


if __name__ == "__main__":
    sys.exit(main())
