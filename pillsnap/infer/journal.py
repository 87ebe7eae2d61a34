"""Results as they come, in <output>.part: what a command that was ended has done is not done again.

A line of its key, then one of JSON for each photo.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from pillsnap.config.settings import Config, config_sha256
from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import file_lock, make_folder, unwritable
from pillsnap.core.hashes import code_sha256, sha256_json
from pillsnap.core.logrecords import open_log
from pillsnap.engines import package_versions
from pillsnap.infer.answers import Answer, content_of
from pillsnap.infer.models import Opened
from pillsnap.pipeline.codes import ClassCodes
from pillsnap.pipeline.twostage import Result

log = open_log(__name__)

# Whatever the umask says: one user goes on with what that user has begun.
_MODE = 0o600

# Begins the line of the key, and more than its length.
_HEAD, _MOST_HEAD = b'{"key": "', 200


class Journal:
    """What open_journal gives; its length is the number of results that are kept."""

    def __init__(self, file: BinaryIO, key: str) -> None:
        self._file = file
        self._key = key
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def known(self, paths: Sequence[Path], batch: int) -> Iterator[Result]:
        """Results of the first photos, as long as these are what they were; the rest is dropped.

        They come in whole batches, since the last bits of an answer depend on its batch.

        Raises:
            PillsnapError: the file is somebody else's.
        """
        self._file.seek(0)
        head = self._file.readline(_MOST_HEAD)
        if _parse(head) != {"key": self._key}:
            if not (head.startswith(_HEAD) or _HEAD.startswith(head)):
                raise PillsnapError(
                    "what lies there is no part of results, and would be overwritten",
                    where=self._file.name,
                    hint="move it away, or choose another --output",
                )
            if head:
                log.warning(
                    "%s is of another model, configuration, version or option: begun anew",
                    self._file.name,
                )
            self._file.truncate(0)
            self._write([{"key": self._key}])
            return
        end, part = self._file.tell(), list[Result]()
        for number, path in enumerate(paths, start=1):
            entry = _parse(self._file.readline())
            result = entry.get("result")
            if not isinstance(result, dict) or result.get("image") != str(path):
                break
            if entry.get("content") != content_of(path):
                break
            part.append(result)
            if len(part) == batch or number == len(paths):
                end, self._count = self._file.tell(), number
                yield from part
                part.clear()
        self._file.truncate(end)

    def add(self, answers: Iterable[Answer]) -> None:
        """Keep the results of a batch; raises PillsnapError where they cannot be written."""
        entries = [{"content": each.content, "result": each.result} for each in answers]
        self._write(entries)
        self._count += len(entries)

    def results(self) -> Iterator[Result]:
        """All that is kept, in order."""
        self._file.seek(0)
        self._file.readline()
        for line in self._file:
            yield json.loads(line)["result"]

    def _write(self, entries: Iterable[dict[str, Any]]) -> None:
        try:
            self._file.write("".join(f"{json.dumps(entry)}\n" for entry in entries).encode())
            self._file.flush()
        except OSError as error:
            raise unwritable(Path(self._file.name), error) from error


def results_key(
    config: Config,
    models: Mapping[str, Opened],
    codes: ClassCodes,
    options: Mapping[str, object],
) -> str:
    """SHA-256 over all that can change the results of a command, but for the photos."""
    return sha256_json(
        {
            "config": config_sha256(config),
            "crop_margin": config.pipeline.crop_margin,
            "codes": [sorted((each or {}).items()) for each in (codes.codes, codes.edi)],
            "models": {name: [each.version, each.weights] for name, each in models.items()},
            "options": {name: str(value) for name, value in options.items()},
            "versions": package_versions(),
            "code": code_sha256(),
        }
    )


@contextmanager
def open_journal(output: Path, key: str) -> Iterator[Journal]:
    """The journal of a file of results. It goes when the block ends well; else it stays. Raises
    PillsnapError where it cannot be written, or another process writes it."""
    path = output.with_name(f"{output.name}.part")
    make_folder(path.parent)
    with _alone(path), _opened(path) as file:
        journal = Journal(file, key)
        try:
            yield journal
        except BaseException:
            if len(journal):
                text = "%s keeps %d results: the same command goes on from there"
                log.warning(text, path, len(journal))
            raise
        path.unlink(missing_ok=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the file's lock; made if it is missing."""
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(path, _MODE, blocking=False))
        except TimeoutError as error:
            raise PillsnapError(
                "another process writes these results",
                where=path,
                hint="wait for it, or give another --output",
            ) from error
        yield


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("a+b")
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield file
    finally:
        with suppress(OSError):  # what it still holds could not be written, which is said
            file.close()


def _parse(line: bytes) -> dict[str, Any]:
    """A whole line; nothing of one that a killed process has left."""
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
