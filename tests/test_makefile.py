"""An environment is set up again where what it is made from has changed, and only then."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_an_environment_counts_by_content_and_not_by_time(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    ready = tmp_path / ".venv" / ".ready"
    ready.parent.mkdir()

    def sets_up() -> bool:
        done = subprocess.run(
            ["make", "-n", "gate"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return "pip install" in done.stdout

    assert sets_up()
    files = [(tmp_path / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    ready.write_text(hashlib.sha256(b"".join(files)).hexdigest() + "\n")
    os.utime(ready, (0, 0))
    assert not sets_up()
    os.utime(ready, (4e9, 4e9))
    with (tmp_path / "constraints.txt").open("a") as file:
        file.write("# another\n")
    assert sets_up()
