"""Many files at once, of which remote ones are fetched ahead of whoever reads them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from pillsnap.core.remote import RemotePath

# Downloads of one process at a time: they wait for answers, not for the processor.
_AT_ONCE = 16


def fetched(paths: Iterable[Path]) -> Generator[Path, None, None]:
    """These paths in order; remote ones `fetched`, several at once and ahead of whoever takes them.

    A RemoteError is raised when its path is due.
    """
    rest = iter(paths)
    first = next(rest, None)
    if not isinstance(first, RemotePath):
        yield from () if first is None else chain([first], rest)
        return
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        waiting: deque[Future[Path]] = deque()
        for path in chain([first], rest):
            if len(waiting) > 2 * _AT_ONCE:
                yield waiting.popleft().result()
            waiting.append(pool.submit(_fetched, path))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _fetched(path: Path) -> Path:
    return path.fetched() if isinstance(path, RemotePath) else path
