"""Command-line options of the gate, checked where they are read. Knows nothing of pytest."""

from __future__ import annotations

import argparse
import ast
import math
import re
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
        PillsnapError: a value is not one of the choices, two options exclude each other, or what
            --against names is no report.
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
        sensitivity=given.sensitivity,
        compare_calibration=given.compare_calibration,
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
    _require_lower_precision(chosen)
    return chosen


def _require_lower_precision(chosen: Selection) -> None:
    """Refuse options about files in lower precision where none is made."""
    lower, made = set(chosen.precisions) - {"fp32"}, set(chosen.stages) - set(chosen.candidates)
    if chosen.int8_method is not None and "int8" not in lower:
        raise ConfigError(
            "--int8-method is about INT8 files, and none is asked for",
            where="--int8-method",
            got=chosen.int8_method,
            hint="add --precision int8, or leave it out",
        )
    if chosen.sensitivity and not (lower and made):
        raise ConfigError(
            "--sensitivity is about files of lower precision that are made here, and none is",
            where="--sensitivity",
            got=f"--precision {', '.join(chosen.precisions)}"
            + "".join(f" --candidate {stage}=…" for stage in chosen.candidates),
            hint="add --precision fp16 or int8 and leave --candidate out",
        )
    if chosen.compare_calibration and not (chosen.sensitivity and "int8" in lower):
        raise ConfigError(
            "--compare-calibration adds a table to the sensitivity in INT8, which is not asked for",
            where="--compare-calibration",
            hint="add --sensitivity --precision int8, or leave it out",
        )


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
    if text is None and fails:
        raise ConfigError(
            "there is nothing to have got worse than",
            where="--fail-on-regression",
            hint="add --against=REPORT, or leave it out",
        )
    if text is None:
        return None
    path = Path(text).expanduser().absolute()
    if not text or not path.exists():
        raise ConfigError(
            "there is no such report, nor a folder of them", where="--against", got=text
        )
    if not path.is_dir():  # what is none is not to be found out when all is measured
        from pillsnap.report.against.earlier import read_earlier

        read_earlier(path)
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
