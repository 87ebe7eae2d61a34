"""When --ray is refused, before anything is run; Ray itself is not started."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import pytest

from pillsnap.core.errors import ConfigError
from pillsnap.plugin.ray_option import require_ray
from tests.plugin.project import Project


def option(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"ray": "local", "save_reference": None, **given})


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"numprocesses": 2, "tx": ["popen"] * 2}, ("-n beside it", "--ray for a cluster")),
        ({"numprocesses": None, "tx": ["ssh=a"]}, ("-n beside it",)),
        ({"save_reference": "bundle"}, ("--save-reference bundle", "leave --ray out")),
    ],
)
def test_what_excludes_it_is_said(given: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        require_ray(option(**given))
    assert all(part in str(caught.value) for part in parts)
    require_ray(option(**{**given, "ray": None}))


def test_no_workers_are_no_objection() -> None:
    require_ray(option(numprocesses=0, tx=[]))


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'pillsnap\[ray\]'"):
        require_ray(option())


def test_beside_workers_it_is_a_wrong_option(project: Project) -> None:
    result = project.run("-m", "smoke", "--ray", "local", "-n", "2")
    assert result.ret == 4
    assert "each run their shards on the whole cluster" in "\n".join(result.errlines)
