"""Which reports are kept: the newest, and all that a verdict on a file still rests on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pillsnap.core.hashes import VERSION_TAG
from pillsnap.core.textfiles import is_file
from pillsnap.report.index import ReportIndex
from pillsnap.report.judgements import Judgement

# Of a run's report; nothing else among them is ours to remove.
_NAME = re.compile(rf"{VERSION_TAG}-.+-[0-9a-f]{{6}}\.json")


def prune_reports(out_dir: Path, keep: int, own: str) -> None:
    """Remove reports: all but the newest `keep`, and those without which the gate would stand
    differently behind a file that still exists, or that has breached: bytes that are gone may come
    back, under any name. The index beside them is brought up to date.

    Args:
        out_dir: of exports, with the folder reports.
        keep: how many, at least 1.
        own: name of the report that has just been written, which stays in any case.
    """
    index = ReportIndex(out_dir / "reports")
    said = index.by_report()
    names = sorted((name for name in said if _NAME.fullmatch(name)), reverse=True)
    old = [name for name in names[keep:] if name != own]
    if not old:
        return
    needed = _needed([each for judged in said.values() for each in judged], out_dir)
    for name in old:
        if name not in needed:
            with suppress(OSError):  # another user's, or another process was faster
                (out_dir / "reports" / name).unlink()
    index.by_report()


def _needed(judged: Iterable[Judgement], out_dir: Path) -> set[str]:
    """Names of the reports that find_standing's answers on these files rest on: every breach of
    what a file answers, and of each cell on the same samples the newest verdict."""
    decisive = [each for each in judged if each.whole or each.verdict == "breach"]
    files = _existing(decisive, out_dir) | {each.sha256 for each in decisive if each.of_outputs}
    newest: dict[tuple[object, ...], str] = {}
    for each in decisive:
        newest[_subject(each)] = max(each.started, newest.get(_subject(each), ""))
    return {
        each.report
        for each in decisive
        if each.sha256 in files and (each.of_outputs or each.started == newest[_subject(each)])
    }


def _subject(judged: Judgement) -> tuple[object, ...]:
    how = judged.provider, judged.level, judged.optimizers
    return judged.sha256, judged.stage, *how, judged.cell, judged.fingerprint


def _existing(judged: Iterable[Judgement], out_dir: Path) -> set[str]:
    """SHA-256 of the files that lie where they were judged, or among the exports; where several
    were judged in one place, the last one does. A file whose place is not known may exist."""
    places: dict[str, str] = {}
    known, all_files = set(), set()
    for each in sorted(judged, key=lambda each: each.started):
        all_files.add(each.sha256)
        if each.path is not None:
            known.add(each.sha256)
            places[each.path] = each.sha256
    return (all_files - known) | {
        sha256
        for path, sha256 in places.items()
        if is_file(Path(path)) or is_file(out_dir / Path(path).name)
    }
