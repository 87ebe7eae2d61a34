"""`pillsnap gate` as a command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("forgotten", "option"),
    [
        (["--against"], "--against"),
        (["--against", "--fail-on-regression"], "--against"),
        (["--config"], "--config"),
        (["-m"], "-m"),
        (["--ray"], "--ray"),
        (["--candidate"], "--candidate"),
    ],
)
def test_an_option_without_its_value_is_named(
    tmp_path: Path, forgotten: list[str], option: str
) -> None:
    code = "import sys; from pillsnap.plugin.command import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "gate", *forgotten],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert f"argument {option}: expected one argument" in done.stderr
