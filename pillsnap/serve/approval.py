"""Which files /reload may load: those below allowed folders that the gate has passed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pillsnap.config.runtime import Runtime
from pillsnap.core.logrecords import open_log
from pillsnap.core.modelfiles import model_files
from pillsnap.report.index import ReportIndex
from pillsnap.report.standing import Standing, find_standing
from pillsnap.serve.refusal import Refusal

log = open_log(__name__)

# Of a model that /reload looks at: it is read from end to end before anything is known of it.
MAX_BYTES = 16 * 2**30


def require_allowed(text: str, folders: Sequence[Path]) -> Path:
    """The file that a client names, links followed: by a path from the first of the folders, of
    which it must lie below one.

    Raises:
        Refusal: 403 for a path that leads out of all folders, 404 where there is no file, 422 for
            one that is too large.
    """
    if not text or "\0" in text or len(text) > 4096:
        raise Refusal(422, "a model path must be text of 1 to 4096 characters")
    roots = [folder.resolve() for folder in folders]
    try:
        path = (roots[0] / text).resolve()
        inside = any(path.is_relative_to(root) for root in roots)
        if inside and path.is_file():
            if sum(each.stat().st_size for each in model_files(path)) > MAX_BYTES:
                raise Refusal(422, f"the file has more than {MAX_BYTES} bytes, as no model has")
            return path
    # A loop of links, a name that is too long, or one that no file name can be.
    except (OSError, RuntimeError, ValueError):
        inside = True
    if not inside:
        # Whether something is there is not said.
        raise Refusal(403, "models are loaded from below the allowed folders only")
    raise Refusal(404, "there is no such model below the allowed folders")


def look_up(
    reports: ReportIndex, stage: str, sha256: str, provider: str, runtime: Runtime
) -> Standing:
    """Whether the gate stands behind this very file, on a provider as ONNX Runtime names it and
    with these options, and by which report it does or does not; the log says so too. The caller
    takes no weights in other files, which can change between two looks: see Opened.whole."""
    standing = find_standing(reports.judgements(sha256), stage, provider, runtime, None)
    log.info("%s model %s: %s", stage, sha256[:12], standing.reason)
    return standing
