"""python -m pillsnap.infer that is ended: what is done is kept, and nothing is a traceback."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pillsnap.infer import __main__ as command
from pillsnap.infer import answers
from tests.e2e.demo_project import DemoProject


@pytest.fixture
def options(project: DemoProject, tmp_path: Path) -> list[str]:
    """Of a command over nine photos of a pill and one that is none."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, path in enumerate(sorted(project.images.glob("single/*/000.png"))[:9]):
        (photos / f"{number}.png").symlink_to(path)
    (photos / "5a.png").write_bytes(b"")
    model = project.exp_dir / "checkpoints" / "classification_best.pt"
    fixed = ["--config", str(project.config), "--threads", "1", "--batch", "2"]
    return [*fixed, "--model", str(model), "--inputs", f"{photos}/*.png"]


def test_the_same_command_goes_on_and_another_begins_anew(
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole, output, drawn = tmp_path / "whole.jsonl", tmp_path / "r.jsonl", tmp_path / "drawn"
    assert command.main([*options, "--output", str(whole)]) == 1
    asked: list[Any] = []

    def broken_off(*arguments: Any) -> list[answers.Answer]:
        asked.append(arguments)
        if len(asked) == most:
            raise KeyboardInterrupt
        return answers.answer(*arguments)

    def run(*more: str) -> int:
        asked.clear()
        save = ("--output", str(output), "--save-images", str(drawn))
        return command.main([*options, *save, *more])

    monkeypatch.setattr(command, "answer", broken_off)
    most = 3
    for kept in (4, 8):
        assert run() == 130
        assert not output.exists()
        assert f"keeps {kept} results: the same command goes on from there" in caplog.text
    most = 99
    assert (run(), len(asked)) == (1, 1)
    assert output.read_bytes() == whole.read_bytes()
    assert len(list(drawn.iterdir())) == 9
    assert sorted(tmp_path.glob("*.part")) == []
    errors = capsys.readouterr().err
    assert "5a.png: this image cannot be read" in errors
    assert "1 images could not be read" in errors
    for other, batches in ((("--batch", "3"), 4), (("--threads", "2"), 5)):
        most = 2
        assert run() == 130
        most = 99
        assert (run(*other), len(asked)) == (1, batches)


def test_results_that_cannot_be_written_are_a_message_and_exit_2(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.jsonl"
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, usual[1]))  # as on a disk that is full
    try:
        code = command.main([*options, "--output", str(output)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert code == 2
    errors = capsys.readouterr().err
    assert errors.startswith(
        f"error: cannot write\n  where:    {output}.part\n  got:      File too"
    )
    with Path("/dev/full").open("w") as full:
        infer = [sys.executable, "-m", "pillsnap.infer", *options]
        done = subprocess.run(infer, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "error: cannot write\n  where:    standard output\n  got:      No space" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pipe_that_closes_and_a_request_to_end_are_no_traceback(
    options: list[str], tmp_path: Path
) -> None:
    infer = [sys.executable, "-m", "pillsnap.infer", *options]
    with subprocess.Popen(infer, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["code"]
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert process.returncode in (-signal.SIGPIPE, 1)  # it may have been done by then
    assert "Traceback" not in errors and "BrokenPipe" not in errors

    # The results of a photo in a pipe that nobody fills are waited for.
    pipe = tmp_path / "photos" / "7.png"
    pipe.unlink()
    os.mkfifo(pipe)
    part = tmp_path / "r.csv.part"
    infer += ["--output", str(tmp_path / "r.csv")]
    with subprocess.Popen(infer, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while process.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") > 8):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        errors = process.stderr.read().decode()
    assert process.returncode == 128 + signal.SIGTERM
    assert "keeps 8 results" in errors
    assert "Traceback" not in errors
