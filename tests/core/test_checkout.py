"""The commit of a folder, and whether its files are that commit's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pillsnap.core.checkout import Checkout, describe_checkout, get_git_sha

NO_GIT = Checkout("nogit")
# Git's own switch for its tests: every repository belongs to somebody else.
FOREIGN = "GIT_TEST_ASSUME_DIFFERENT_OWNER"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, "-c", "protocol.file.allow=always", *arguments]
    own = {name: value for name, value in os.environ.items() if name != FOREIGN}
    done = subprocess.run(command, cwd=folder, env=own, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit with one file in a folder below."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    path = tmp_path / "repository"
    (path / "ci").mkdir(parents=True)
    (path / "ci/config.yaml").write_text("one\n")
    git(path, "init", "-q", "-b", "main")
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "first")
    return path


@pytest.fixture
def foreign(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks git is another than the owner."""
    monkeypatch.setenv(FOREIGN, "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")


def head(folder: Path) -> str:
    return git(folder, "rev-parse", "HEAD")[:7]


def test_the_commit_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe_checkout(tmp_path) == NO_GIT
    assert describe_checkout(tmp_path / "gone") == NO_GIT
    git(tmp_path, "init", "-q")
    assert describe_checkout(tmp_path) == NO_GIT, "no commit yet"
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    assert describe_checkout(tmp_path) == Checkout(head(tmp_path), dirty=False)
    monkeypatch.chdir(tmp_path)
    assert get_git_sha() == head(tmp_path)


def test_a_changed_file_makes_it_dirty(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = Checkout(head(repository), dirty=False)
    (repository / "untracked").write_text("as exports are")
    assert describe_checkout(repository / "ci") == clean
    file = repository / "ci/config.yaml"
    found = {}
    for text in ("two\n", "three\n", "two\n"):
        file.write_text(text)
        found[text] = describe_checkout(repository)
        assert (found[text].sha, found[text].dirty) == (clean.sha, True)
        assert found[text] == describe_checkout(repository / "ci")
    first, second = (checkout.diff_sha256 for checkout in found.values())
    assert first and second and first != second
    # Staged or not, and whatever the user's settings make of it.
    git(repository, "add", "-A")
    git(repository, "rm", "-q", "--cached", "untracked")
    git(repository, "config", "diff.noprefix", "true")
    git(repository, "config", "color.ui", "always")
    git(repository, "config", "diff.external", "false")
    assert describe_checkout(repository) == found["two\n"]
    file.write_text("one\n")
    git(repository, "add", "-A", "ci")
    assert describe_checkout(repository) == clean
    # In a hook git names the repository, not the working tree.
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    assert describe_checkout(repository / "ci") == clean


@pytest.mark.parametrize("mark", ["--assume-unchanged", "--skip-worktree"])
def test_a_file_that_git_was_told_not_to_look_at_is_looked_at(repository: Path, mark: str) -> None:
    (repository / "other").write_text("one\n")
    git(repository, "add", "other")
    git(repository, "commit", "-q", "-m", "second")
    git(repository, "update-index", mark, "ci/config.yaml", "other")
    before = git(repository, "ls-files", "-v")
    clean = Checkout(head(repository), dirty=False)
    assert describe_checkout(repository / "ci") == clean
    (repository / "other").unlink()
    if mark == "--skip-worktree":  # as a sparse checkout leaves out what nobody needs there
        assert describe_checkout(repository) == clean
    found = set()
    for text in ("two\n", "six\n"):
        (repository / "ci/config.yaml").write_text(text)
        assert describe_checkout(repository / "ci").dirty
        found.add(describe_checkout(repository).diff_sha256)
    assert len(found) == 2
    assert git(repository, "ls-files", "-v") == before


@pytest.mark.parametrize("ignore", ["none", "all"])
def test_a_changed_submodule_makes_it_dirty(repository: Path, tmp_path: Path, ignore: str) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "submodule", "--quiet", "add", str(repository), "sub")
    git(outer, "config", "-f", ".gitmodules", "submodule.sub.ignore", ignore)
    git(outer, "commit", "-q", "-a", "-m", "first")
    (outer / "sub/untracked").touch()
    assert describe_checkout(outer).dirty is False
    (outer / "sub/ci/config.yaml").write_text("two\n")
    changed = describe_checkout(outer)
    git(outer / "sub", "commit", "-q", "-a", "-m", "second")
    moved = describe_checkout(outer)
    assert changed.dirty and moved.dirty
    assert changed.diff_sha256 != moved.diff_sha256


def test_a_changed_file_that_is_not_text_has_its_own_hash(repository: Path) -> None:
    file = repository / "model.bin"
    file.write_bytes(b"\0one")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "second")
    hashes = set()
    for content in (b"\0two", b"\0three"):
        file.write_bytes(content)
        hashes.add(describe_checkout(repository).diff_sha256)
    assert len(hashes - {None}) == 2


@pytest.mark.usefixtures("foreign")
def test_a_checkout_that_git_refuses_has_its_commit(repository: Path, tmp_path: Path) -> None:
    def found(folder: Path) -> str:
        checkout = describe_checkout(folder)
        assert checkout.dirty is None
        assert checkout.reason is not None
        return checkout.sha

    first = head(repository)
    assert found(repository / "ci") == first
    assert f"safe.directory {repository} allows it" in str(describe_checkout(repository).reason)
    git(repository, "commit", "-q", "--allow-empty", "-m", "second")
    second = head(repository)
    git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"), "HEAD^")
    git(repository, "worktree", "add", "-q", "-b", "other", str(tmp_path / "branch"), "HEAD^")
    assert found(tmp_path / "tree") == found(tmp_path / "branch") == first
    assert found(repository) == second
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git/refs/heads/main").exists()
    assert (found(repository), found(tmp_path / "branch")) == (second, first)
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "submodule", "--quiet", "add", str(repository), "sub")
    assert found(outer / "sub/ci") == second
    assert describe_checkout(outer) == NO_GIT, "no commit yet"
    # A folder that only has the name is none; what is no commit's name is none either.
    (repository / "ci/.git").mkdir()
    assert found(repository / "ci") == second
    (repository / ".git/HEAD").write_text("ref: refs/heads/gone\n")
    assert describe_checkout(repository) == NO_GIT


@pytest.mark.usefixtures("foreign")
def test_nothing_of_a_refused_checkout_is_run(repository: Path, tmp_path: Path) -> None:
    command = f"touch {tmp_path / 'ran'}"
    for name in ("core.fsmonitor", "diff.external", "filter.x.clean", "core.pager"):
        git(repository, "config", name, command)
    (repository / ".git/info/attributes").write_text("* filter=x\n")
    (repository / "ci/config.yaml").write_text("two\n")
    assert describe_checkout(repository).sha != "nogit"
    assert not (tmp_path / "ran").exists()


def test_without_git_the_commit_is_read(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = head(repository)
    monkeypatch.setenv("PATH", str(repository))
    found = describe_checkout(repository)
    assert (found.sha, found.dirty) == (expected, None)
    assert found.reason == "git does not run: No such file or directory"
