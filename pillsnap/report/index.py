"""An index of what the reports of a folder say, so that thousands are not read for each question.

The reports stay the truth. The index holds what each of them said, with its size and time of change
when it was read; one that has others by now is read again. So an index may be missing, old, of
another version or none at all, and of two processes that write it at once either may win.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from pillsnap.compare import verdict
from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import replace_atomic
from pillsnap.core.hashes import sha256_file, sha256_json
from pillsnap.core.logrecords import open_log
from pillsnap.core.printable import printable
from pillsnap.report import judgements
from pillsnap.report.judgements import NO_REPORT, Judgement, judgements_of
from pillsnap.report.reading import list_reports, read_bounded

log = open_log(__name__)

MAX_BYTES = 128 * 2**20

# File systems tell times this coarsely at the worst: what has just been written may change once
# more within the same tick.
_TICK_NS = 2 * 10**9


@dataclass(frozen=True)
class Entry:
    """What a report says, and its size and time of change when it was read; 0 is no time, so that
    it is read again."""

    size: int
    changed_ns: int
    judged: list[Judgement]


def index_of(folder: Path) -> Path:
    """The file beside a folder, in which are reports alone."""
    return folder.with_name(f".{folder.name}.index")


class ReportIndex:
    """What the reports of a folder, which may be missing, say of files. Every question looks at all
    names and times; what is no report says nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[str, Entry] | None = None

    def judgements(self, sha256: str, *, but: str = "") -> list[Judgement]:
        """What reports, all but the one of a name, say of the file with this SHA-256, in the order
        of their names."""
        return [
            each
            for name, judged in self.by_report().items()
            if name != but
            for each in judged
            if each.sha256 == sha256
        ]

    def by_report(self) -> dict[str, list[Judgement]]:
        """What every report says, by its name, in the order of names; the index is written where
        it did not have all of it."""
        if self._entries is None:
            self._entries = self._read()
        known, fresh = self._entries, {}
        for name, (size, changed_ns) in list_reports(self._folder).items():
            entry = known.get(name)
            if entry is None or (entry.size, entry.changed_ns) != (size, changed_ns):
                settled = changed_ns if changed_ns < time.time_ns() - _TICK_NS else 0
                entry = Entry(size, settled, self._judged(name))
            fresh[name] = entry
        if fresh != known:
            self._entries = fresh
            self._write()
        return {name: entry.judged for name, entry in fresh.items()}

    def _judged(self, name: str) -> list[Judgement]:
        path = self._folder / name
        try:
            return judgements_of(json.loads(read_bounded(path)), printable(name))
        except OSError as error:
            log.warning("%s is no report: %s", printable(path), error.strerror)
        except NO_REPORT as error:
            log.warning("%s is no report and approves nothing: %r", printable(path), error)
        return []

    def _read(self) -> dict[str, Entry]:
        path = index_of(self._folder)
        try:
            content = json.loads(read_bounded(path, MAX_BYTES))
            if content["version"] == _version():
                return _entries().validate_python(content["reports"])
        except FileNotFoundError:
            pass
        except (OSError, *NO_REPORT) as error:
            log.info("%s is no index and is made anew: %.200r", printable(path), error)
        return {}

    def _write(self) -> None:
        """Best effort: where it cannot be written, the next process reads the reports again."""
        path = index_of(self._folder)
        content = {"version": _version(), "reports": _entries().dump_python(self._entries or {})}
        data = json.dumps(content).encode()
        try:
            if len(data) <= MAX_BYTES:
                with replace_atomic(path, sync=False) as temp:
                    temp.write_bytes(data)
        except (OSError, PillsnapError) as error:
            log.info("%s is not kept: %s", printable(path), " ".join(str(error).split()))


@cache
def _entries() -> TypeAdapter[dict[str, Entry]]:
    return TypeAdapter(dict[str, Entry])


@cache
def _version() -> str:
    """Of the code that reads judgements out of a report."""
    files = [Path(str(module.__file__)) for module in (judgements, verdict)]
    return sha256_json([sha256_file(path) for path in files])
