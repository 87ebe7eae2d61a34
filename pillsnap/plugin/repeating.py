"""The command that repeats a run. Knows nothing of pytest."""

from __future__ import annotations

import shlex
from pathlib import Path

from pillsnap.config.selection import Selection
from pillsnap.engines import find_entry


def repeat_command(
    selection: Selection, markers: str, threads: int, config: Path, program: str = "pytest"
) -> str:
    """The command that repeats a run's cells, whatever workers they ran on."""
    words = [*program.split(), "-m", markers]
    # Stages that no option has named are those of the configuration.
    stages = selection.stages if set(selection.stages) <= set(selection.named) else ()
    # A provider that goes without saying is not said: saying another is refused.
    unsaid = any(find_entry(name).only_provider for name in selection.engines)
    for option, values in (
        ("--stage", stages),
        ("--engine", selection.engines),
        ("--provider", () if unsaid else selection.providers),
        ("--precision", selection.precisions),
        ("--candidate", [f"{stage}={path}" for stage, path in selection.candidates.items()]),
        ("--layout", [f"{stage}={name}" for stage, name in selection.layouts.items()]),
        ("--perf-budget", [f"{name}={most:g}" for name, most in selection.budgets.items()]),
    ):
        for value in values:
            words += [option, value]
    if selection.reference is not None:
        words.append(f"--reference={selection.reference}")
    if selection.int8_method is not None:
        words += ["--int8-method", selection.int8_method]
    if selection.gate_strict:
        words.append("--gate-strict")
    if selection.against is not None:
        words.append(f"--against={selection.against}")
    if selection.fail_on_regression:
        words.append("--fail-on-regression")
    # With "=": pytest takes a separate path for a place to look for tests, and its own ini file.
    words += ["--threads", str(threads), f"--config={config}"]
    return shlex.join(words)
