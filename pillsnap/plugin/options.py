"""Command-line options of the gate, checked where they are read. Knows nothing of pytest."""

from __future__ import annotations

import argparse
import ast
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from pillsnap.compare.figures.performance import BUDGETS
from pillsnap.compare.tasks import task_names
from pillsnap.config.cells import MODES, PRECISIONS
from pillsnap.config.selection import Selection
from pillsnap.core.errors import ConfigError
from pillsnap.engines import engine_names, entries, find_entry, provider_names
from pillsnap.engines.layouts import read_layouts
from pillsnap.export.quantize import METHODS
from pillsnap.plugin.candidates import read_candidates, require_engines


def asks_for_gate(marker_expression: str) -> bool:
    """Whether a -m picks a gate mode and leaves out tests without a mark.

    `smoke` and `coverage and not slow` do. `not slow` and `not smoke` do not, nor does the default
    of pytest.ini: they are about the project's tests as well.
    """
    try:
        tree = ast.parse(marker_expression.strip(), mode="eval").body
    except SyntaxError:
        return False  # pytest refuses it, with a message of its own
    return any(_matches(tree, mode) for mode in MODES) and not _matches(tree, None)


def named_modes(*texts: str) -> set[str]:
    """Gate modes that run where an expression of -m, or an item's id, is this: smoke, and the
    others only by name, since a plain pytest is to take seconds."""
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    return {MODES[0], *words.intersection(MODES)}


def select(given: argparse.Namespace) -> Selection:
    """The selection that the options ask for.

    Args:
        given: every option by its name; None, or False for a flag, where it is not given.

    Raises:
        ConfigError: a value is not one of the choices, or two options exclude each other.
    """
    default = Selection()
    method, reference, save_reference = given.int8_method, given.reference, given.save_reference
    _choices("--int8-method", [] if method is None else [method], METHODS)
    named = read_candidates(given.candidate or ())
    # A bundle has no checkpoint to export: its stages are those of the candidates.
    every = task_names()
    usual = every if reference is None else tuple(s for s in every if s in named)
    chosen = Selection(
        stages=_choices("--stage", given.stage, every) or usual,
        named=tuple(stage for stage in every if stage in {*(given.stage or ()), *named}),
        engines=_choices("--engine", given.engine, engine_names()) or default.engines,
        providers=_choices("--provider", given.provider, provider_names()) or default.providers,
        precisions=_choices("--precision", given.precision, PRECISIONS) or default.precisions,
        candidates=named,
        layouts=read_layouts(given.layout or (), named),
        fresh_export=given.fresh_export,
        gate_strict=given.gate_strict,
        reference_cache=not given.no_reference_cache,
        int8_method=method,
        budgets=_budgets(given.perf_budget or ()),
        diagnose=given.diagnose,
        against=_against(given.against, given.fail_on_regression),
        fail_on_regression=given.fail_on_regression,
        save_reference=None if save_reference is None else Path(save_reference).absolute(),
        reference=None if reference is None else Path(reference).absolute(),
    )
    used = [find_entry(name) for name in chosen.engines]
    if reference is not None and (
        save_reference is not None
        or not all(engine.takes_exports for engine in used)
        or not chosen.stages
        or set(chosen.stages) - named.keys()
    ):
        raise ConfigError(
            "a bundle verifies candidates that are files, and makes no other bundle",
            where="--reference",
            got=reference,
            expected="--candidate STAGE=PATH for every stage, engine "
            + " or ".join(engine.name for engine in entries() if engine.takes_exports),
        )
    for engine in used:
        other = [name for name in given.provider or () if name not in engine.providers]
        if engine.only_provider is not None and other:
            able = next(each.name for each in entries() if other[0] in each.providers)
            raise ConfigError(
                f"engine {engine.name} runs on provider {engine.only_provider} alone",
                where="--provider",
                got=", ".join(other),
                expected=f"{engine.only_provider}, or no --provider",
                hint=f"use --engine {able} --provider {other[0]}",
            )
    require_engines(chosen.candidates, used)
    for stage in chosen.candidates:
        if stage not in chosen.stages:
            raise ConfigError(
                f"--stage leaves out the candidate of {stage}",
                where="--candidate",
                got=f"{stage}={chosen.candidates[stage]}",
                expected=", ".join(chosen.stages),
                hint=f"add --stage {stage}, or leave the candidate out",
            )
    if method is not None and "int8" not in chosen.precisions:
        raise ConfigError(
            "--int8-method is about INT8 files, and none is asked for",
            where="--int8-method",
            got=method,
            hint="add --precision int8, or leave it out",
        )
    return chosen


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


def _matches(expression: ast.expr, mark: str | None) -> bool:
    """Whether a test with this one mark, or with none, satisfies the expression of a -m."""
    if isinstance(expression, ast.BoolOp):
        combine = all if isinstance(expression.op, ast.And) else any
        return combine(_matches(value, mark) for value in expression.values)
    if isinstance(expression, ast.UnaryOp):
        return not _matches(expression.operand, mark)
    return isinstance(expression, ast.Name) and expression.id == mark


def _choices(
    option: str, values: Sequence[str] | None, choices: Sequence[str]
) -> tuple[str, ...] | None:
    for value in values or ():
        if value not in choices:
            raise ConfigError(
                f"{option} has no such choice", where=option, got=value, expected=", ".join(choices)
            )
    return tuple(dict.fromkeys(values)) if values else None


def _against(text: str | None, fails: bool) -> Path | None:
    path = None if text is None else Path(text).expanduser().absolute()
    if path is None and fails:
        raise ConfigError(
            "there is nothing to have got worse than",
            where="--fail-on-regression",
            hint="add --against=REPORT, or leave it out",
        )
    if path is not None and not path.exists():
        raise ConfigError(
            "there is no such report, nor a folder of them", where="--against", got=text
        )
    return path


def _budgets(texts: Sequence[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if name not in BUDGETS or not 0 < limit < math.inf:
            raise ConfigError(
                "--perf-budget takes KEY=VALUE",
                where="--perf-budget",
                got=text,
                expected=f"KEY one of {', '.join(BUDGETS)}, VALUE a number above 0",
            )
        found[name] = limit
    return found
