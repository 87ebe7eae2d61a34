"""What a job on GitHub shows of a report: its own formats, whatever the texts hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pillsnap.report.github import tell_github

REPORT: dict[str, Any] = {
    "gate": {
        "verdict": "inconclusive",
        "complete": False,
        "unmeasured": ["a:b,c 5%"],
        "missing": ["<x>|*y*"],
    },
    "cells": [],
}


def test_texts_cannot_leave_their_place(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    lines = tell_github(REPORT, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)})
    assert lines == [
        "::error title=pillsnap gate%3A not measured a%3Ab%2Cc 5%25::it was asked for",
        "::error title=pillsnap gate%3A missing <x>|*y*::its worker never reported",
    ]
    text = summary.read_text()
    assert text.startswith("before\n### pillsnap gate: inconclusive, incomplete\n\n| cell |")
    assert "\n**missing \\<x>\\|\\*y\\***\n" in text


def test_elsewhere_and_where_it_cannot_be_written_nothing_is_lost(tmp_path: Path) -> None:
    assert tell_github(REPORT, {}) == []
    (line,) = tell_github(REPORT, {"GITHUB_STEP_SUMMARY": str(tmp_path)})
    assert line == "warning: the job's summary cannot be written: Is a directory"
