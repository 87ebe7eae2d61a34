"""The git checkout that a folder lies in: its commit, and whether its files are that commit's."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pillsnap.core.errors import first_line
from pillsnap.core.regularfiles import open_regular

NO_GIT = "nogit"
_SHA = re.compile(r"[0-9a-f]{40,64}")
# Git's, of a checkout whose owner is not the user that asks: two versions' words.
_REFUSED = ("dubious ownership", "owned by someone else")
_SECONDS = 60
# Of a file that holds one name.
_MOST_BYTES = 2**16
# Nothing that the user's settings make of a difference: the same changes give the same text.
_DIFF = (
    *("-c", "diff.context=3", "-c", "diff.algorithm=default", "-c", "core.quotePath=true"),
    *("-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false"),
    *("diff", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"),
    *("--no-relative", "--ignore-submodules=untracked", "HEAD"),
)


@dataclass(frozen=True)
class Checkout:
    """What a folder's files are of.

    Attributes:
        sha: first 7 hex digits of HEAD; "nogit" where there is no commit.
        dirty: whether tracked files differ from it; None where that is not known.
        diff_sha256: of the difference, where there is one; untracked files are no part of it, and
            of a submodule only its commit and that its files were changed.
        reason: why it is not known, where there is a commit.
    """

    sha: str
    dirty: bool | None = None
    diff_sha256: str | None = None
    reason: str | None = None

    def as_dict(self) -> dict[str, str | bool | None]:
        """As it stands in a report."""
        return {
            "git_sha": self.sha,
            "git_dirty": self.dirty,
            "git_diff_sha256": self.diff_sha256,
            "git_dirty_reason": self.reason,
        }

    def metadata(self) -> dict[str, str]:
        """As it stands in a file's metadata beside git_sha; "" is not known."""
        dirty = "" if self.dirty is None else str(self.dirty).lower()
        return {"git_dirty": dirty, "git_diff_sha256": self.diff_sha256 or ""}


def describe_checkout(folder: Path) -> Checkout:
    """What the files of a folder are of, git's word for it.

    Git refuses the checkout of another owner, as most in containers are, since what its
    configuration names would run. Its commit is read as text then, and whether files were changed
    is left open.
    """
    sha, problem = _find_head(folder)
    if sha == NO_GIT or problem is not None:
        return Checkout(sha, reason=problem)
    try:
        difference = _difference(folder)
    except _Failed as error:
        return Checkout(sha, reason=f"git diff failed: {error}")
    digest = hashlib.sha256(difference).hexdigest() if difference else None
    return Checkout(sha, dirty=digest is not None, diff_sha256=digest)


def _difference(folder: Path) -> bytes:
    """What tracked files differ by, those too that git was told not to look at: by an index of our
    own, which forgets that."""
    lines = _git(folder, "ls-files", "-v", "-z", ":/").split(b"\0")
    # "S" or a small letter, then the path; of a sparse checkout most are not there.
    names = [line[2:] for line in lines if line[:1] == b"S" or line[:1].islower()]
    names = [name for name in names if os.path.lexists(folder / os.fsdecode(name))]
    if not names:
        return _git(folder, *_DIFF)
    try:
        with TemporaryDirectory(prefix="pillsnap-") as temp:
            index = Path(temp, "index")
            own = os.fsdecode(_git(folder, "rev-parse", "--git-path", "index").rstrip(b"\n"))
            shutil.copy2(folder / own, index)  # by its time git knows what it has to read again
            for mark in ("--no-assume-unchanged", "--no-skip-worktree"):
                command = ("update-index", mark, "-z", "--stdin")
                _git(folder, *command, index=index, stdin=b"\0".join(names))
            return _git(folder, *_DIFF, index=index)
    except OSError as error:
        raise _Failed(error.strerror) from None


def get_git_sha(cwd: Path | None = None) -> str:
    """First 7 hex digits of HEAD in `cwd` (default: the current folder), else "nogit": there is no
    repository, or it has no commit yet."""
    return _find_head(cwd or Path())[0]


def _find_head(folder: Path) -> tuple[str, str | None]:
    """The commit, and why git tells no more of it."""
    problem = None
    try:
        sha = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD").decode(errors="replace")
    except _Missing as error:
        sha, problem = _read_head(folder), f"git does not run: {error}"
    except _Refused:
        sha = _read_head(folder)
        root = next((place for place, _ in _repositories(folder)), folder)
        problem = "git refuses a checkout of another owner; "
        problem += f"git config --global --add safe.directory {root} allows it"
    except _Failed:
        sha = ""
    found = _SHA.fullmatch(sha.strip())
    return (sha[:7], problem) if found else (NO_GIT, None)


class _Failed(Exception):
    """Git ended with an error, or did not end."""


class _Missing(_Failed):
    """There is no git."""


class _Refused(_Failed):
    """The checkout belongs to another user than this process."""


def _git(folder: Path, *words: str, index: Path | None = None, stdin: bytes = b"") -> bytes:
    """What a git command prints.

    Args:
        index: in place of the repository's own.
    """
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    if "GIT_WORK_TREE" not in environment:
        # A hook's, of whatever repository it runs for: with them, any folder is a working tree.
        for name in ("GIT_DIR", "GIT_INDEX_FILE"):
            environment.pop(name, None)
    if index is not None:
        environment["GIT_INDEX_FILE"] = str(index)
    command = ["git", *words]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            input=stdin,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _Failed(f"it took more than {_SECONDS} s") from None
    except OSError as error:
        raise _Missing(error.strerror) from None
    if done.returncode:
        problem = done.stderr.decode(errors="backslashreplace").strip()
        refused = any(words in problem for words in _REFUSED)
        raise (_Refused if refused else _Failed)(first_line(problem or f"exit {done.returncode}"))
    return done.stdout


def _read_head(folder: Path) -> str:
    """HEAD's commit as the repository's files have it, by which nothing runs; "" where they do not,
    as in the format reftable."""
    for _, git_dir in _repositories(folder):
        shared = git_dir / (_line(git_dir / "commondir") or ".")  # of a worktree, the repository's
        head = _line(git_dir / "HEAD")
        if not head:
            continue  # a folder of that name
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        return _line(git_dir / ref) or _line(shared / ref) or _packed(shared / "packed-refs", ref)
    return ""


def _repositories(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The folders around, itself included, that are checkouts, each with its git folder."""
    for place in (folder.absolute(), *folder.absolute().parents):
        link = place / ".git"
        if link.is_dir():
            yield place, link
        elif (text := _line(link)).startswith("gitdir: "):  # a worktree or a submodule
            yield place, place / text.removeprefix("gitdir: ")


def _packed(path: Path, ref: str) -> str:
    with suppress(OSError, ValueError), open_regular(path) as file:  # the latter of a NUL
        for line in file:
            sha, _, name = line.decode(errors="replace").strip().partition(" ")
            if name == ref:
                return sha
    return ""


def _line(path: Path) -> str:
    """The first line of a small text file; "" where there is none."""
    with suppress(OSError, ValueError), open_regular(path) as file:
        return file.read(_MOST_BYTES).decode(errors="replace").partition("\n")[0].strip()
    return ""
