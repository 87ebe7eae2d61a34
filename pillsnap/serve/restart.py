"""What a restart would serve: a reload changes this process alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pillsnap.config.load import read_environment
from pillsnap.config.settings import Config
from pillsnap.core.errors import MissingCheckpoint, PillsnapError
from pillsnap.core.printable import printable
from pillsnap.infer.choice import VARIABLES, find_model
from pillsnap.serve.refusal import public_message


def describe_restart(
    config: Config, stage: str, served: Path, environ: Mapping[str, str]
) -> dict[str, Any]:
    """What a service that started now, with this process's environment and .env read again, would
    take as a stage's model in place of what is served, and why.

    Returns:
        `file`, its name, null where it would take none or not start; `reason`; `same`, whether it
        is what serves; where it is not, `to_keep`: what makes the one that serves last.
    """
    try:
        choice = find_model(config, stage, read_environment(config.source, environ))
        path, reason = choice.path, choice.reason
    except MissingCheckpoint:
        path, reason = None, "no model is found"
    except PillsnapError as error:
        path, reason = None, f"it would not start: {public_message(error)}"
    same = path is not None and path.resolve() == served.resolve()
    answer = {
        "file": None if path is None else printable(path.name),
        "reason": reason,
        "same": same,
    }
    if not same:
        name = printable(served.name)
        answer["to_keep"] = (
            f"set {VARIABLES[stage]} to {name}, with its folder, in .env or where it is set now; "
            f"or, where no variable names a model, let latest_{stage}.onnx lead to it"
        )
    return answer
