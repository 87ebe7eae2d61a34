"""Version tags and hashes."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from pillsnap.core.errors import ConfigError, PillsnapError
from pillsnap.core.hashes import (
    canonical_json,
    prepare_version_tag,
    sha256_file,
    sha256_json,
    utc_now,
)
from tests.core.test_checkout import git


def test_timestamp_has_the_contracts_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert re.match(r"\d{8}-\d{6}-", prepare_version_tag())
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert prepare_version_tag().startswith("19700102-000000-")


@pytest.mark.parametrize("text", ["soon", "1.5", "9" * 30])
def test_broken_source_date_epoch_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH") as caught:
        utc_now()
    assert text in str(caught.value)


def test_a_version_tag_is_a_moment_and_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert prepare_version_tag(tmp_path) == "19700101-000000-nogit"
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert prepare_version_tag(tmp_path) == f"19700101-000000-{head[:7]}"
    monkeypatch.chdir(tmp_path)
    assert prepare_version_tag() == f"19700101-000000-{head[:7]}"


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"pill")
    assert sha256_file(path) == hashlib.sha256(b"pill").hexdigest()
    assert canonical_json({"b": (1, 2), "a": "é"}) == '{"a":"é","b":[1,2]}'
    assert sha256_json({"b": 1, "a": 2}) == sha256_json({"a": 2, "b": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        sha256_json(float("nan"))
    with pytest.raises(PillsnapError, match="No such file") as caught:
        sha256_file(tmp_path / "gone")
    assert str(tmp_path / "gone") in str(caught.value)
