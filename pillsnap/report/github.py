"""A report on GitHub: Markdown in the summary of a job, annotations in its log.

The formats: https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pillsnap.core.printable import printable
from pillsnap.report.findings import diagnosis_texts
from pillsnap.report.lines import one_line
from pillsnap.report.rows import figures_in_words
from pillsnap.report.table import explanations


def tell_github(report: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Append to the job's summary where there is one; lines for its log."""
    lines = _annotations(report) if environ.get("GITHUB_ACTIONS") else []
    summary = environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with Path(summary).open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("\n".join(_markdown(report)) + "\n\n")
        except OSError as error:
            lines.append(f"warning: the job's summary cannot be written: {error.strerror}")
    return lines


def _failures(report: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """What failed, and why in lines."""
    for cell in report["cells"]:
        if cell["verdict"] in ("breach", "inconclusive"):
            why = [cell["reason"] or "", *explanations(cell), *diagnosis_texts(cell)]
            yield f"{cell['verdict']} {cell['id']}", why
    for cell_id in report["gate"]["unmeasured"]:
        yield f"not measured {cell_id}", ["it was asked for"]
    for shard in report["gate"]["missing"]:
        yield f"missing {shard}", ["its worker never reported"]


def _annotations(report: dict[str, Any]) -> list[str]:
    return [
        f"::error title={_escape(f'pillsnap gate: {what}', '%:,')}::"
        + _escape("\n".join(printable(one_line(line)) for line in why), "%\n")
        for what, why in _failures(report)
    ]


def _escape(text: str, letters: str) -> str:
    """Each of the letters as % and its number in hexadecimal."""
    return re.sub(f"[{letters}]", lambda found: f"%{ord(found[0]):02X}", text)


def _markdown(report: dict[str, Any]) -> Iterator[str]:
    gate = report["gate"]
    state = "complete" if gate["complete"] else "incomplete"
    yield f"### pillsnap gate: {gate['verdict'] or 'nothing measured'}, {state}"
    yield ""
    yield "| cell | images | verdict | figures, each against its tolerance |"
    yield "|---|---:|---|---|"
    for cell in report["cells"]:
        figures = _plain(figures_in_words(cell).replace("  ", ", "))
        yield f"| `{cell['id']}` | {cell['samples']} | {cell['verdict']} | {figures} |"
    for what, why in _failures(report):
        yield f"\n**{_plain(what)}**\n"
        yield from (f"- {_plain(line)}" for line in why if line)


def _plain(text: str) -> str:
    """A text in Markdown that stands for itself."""
    return re.sub(r"([\\`*_<\[|~&])", r"\\\1", printable(one_line(text)))
