"""A law of the report: whatever it holds, the file reads back as it was, and holds only JSON."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from pillsnap.config.settings import Config, Export, Paths
from pillsnap.report import _finite, publish_report

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | names
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)


def leaves_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return (
        [leaf for each in value for leaf in leaves_of(each)] if isinstance(value, list) else [value]
    )


@settings(deadline=None)
@given(st.dictionaries(names, values, max_size=4))
def test_a_published_report_reads_back_as_it_was(content: dict[str, Any]) -> None:
    non_finite: dict[str, str] = {}
    report = _finite(content, "", non_finite)
    numbers = [leaf for leaf in leaves_of(content) if isinstance(leaf, float)]
    assert all(not isinstance(leaf, float) or math.isfinite(leaf) for leaf in leaves_of(report))
    # Two places may have one name, as {"a": {"b": nan}, "a.b": nan} has.
    assert len(non_finite) <= sum(not math.isfinite(number) for number in numbers)
    assert bool(non_finite) == any(not math.isfinite(number) for number in numbers)
    with tempfile.TemporaryDirectory() as folder:
        config = Config(Paths(Path(folder)), export=Export(out_dir=Path(folder)))
        path = publish_report(report, config, "law")
        assert json.loads(path.read_text(encoding="utf-8")) == report


def test_a_name_that_is_no_unicode_is_text_that_every_reader_takes(tmp_path: Path) -> None:
    config = Config(Paths(tmp_path), export=Export(out_dir=tmp_path))
    name = "caf\udce9 \ud83d\ude00 \U0001f600 \\"
    content = {name: [name]}
    path = publish_report(content, config, "names")
    shown = "caf\\udce9 \\ud83d\\ude00 \U0001f600 \\"
    assert from_json(path.read_bytes()) == json.loads(path.read_bytes()) == {shown: [shown]}
