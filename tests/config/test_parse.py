"""YAML to dataclasses, and .env files."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from pydantic.dataclasses import dataclass
from pydantic.json_schema import SkipJsonSchema

from pillsnap.config.dotenv import read_env_file
from pillsnap.config.fields import STRICT
from pillsnap.config.parse import parse_yaml
from pillsnap.core.errors import ConfigError

Positive = Annotated[float, Field(ge=0.0)]
Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Digit = Annotated[int, Field(ge=1, le=9)]


@dataclass(frozen=True, config=STRICT)
class Inner:
    need: Path
    size: Annotated[int, Field(ge=1, le=8)] = 1
    note: str | None = None


@dataclass(frozen=True, config=STRICT)
class Limits:
    low: Positive | None = None
    high: Positive | None = None


@dataclass(frozen=True, config=STRICT)
class Pair:
    tight: Limits = Limits(low=1.0, high=2.0)
    loose: Limits = Limits(low=3.0)


@dataclass(frozen=True, config=STRICT)
class Outer:
    name: str = "plain"
    flag: bool = False
    count: Annotated[int, Field(ge=0, le=100)] = 3
    rate: Rate = 0.5
    kind: Literal["red", "blue"] = "red"
    shape: tuple[Digit, Digit] = (1, 2)
    edges: tuple[Rate, ...] = (0.0, 1.0)
    place: Path | None = None
    inner: Inner | None = None
    pair: Pair = Pair(loose=Limits(low=4.0))
    source: SkipJsonSchema[Path] = field(default=Path("unset"), metadata={"internal": True})


@dataclass(frozen=True, config=STRICT)
class Strict:
    inner: Inner


def parse(folder: Path, text: str | bytes, cls: Any = Outer, **environ: str) -> Any:
    path = folder / "config.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return parse_yaml(cls, path, environ)


def refusal(folder: Path, text: str | bytes, cls: Any = Outer, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(folder, text, cls, **environ)
    return str(caught.value)


def test_every_kind_of_value(tmp_path: Path) -> None:
    text = """
name: "x"
flag: true
count: 7
rate: 1
kind: blue
shape: [3, 4]
edges: [0, 0.25, 1e-4]
place: sub/x
inner: {need: /abs, size: 8, note: null}
"""
    made = parse(tmp_path, text)
    assert made == Outer(
        name="x",
        flag=True,
        count=7,
        rate=1.0,
        kind="blue",
        shape=(3, 4),
        edges=(0.0, 0.25, 0.0001),
        place=tmp_path / "sub/x",
        inner=Inner(Path("/abs"), 8),
    )
    assert [type(edge) for edge in made.edges] == [float] * 3
    assert type(made.rate) is float


@pytest.mark.parametrize("text", ["1e-4", "'1e-4'", "0.0001", "1.0e-4", "+1E-4"])
def test_a_float_however_it_is_written(tmp_path: Path, text: str) -> None:
    assert parse(tmp_path, f"rate: {text}").rate == 0.0001


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flag: 1", "true or false"),
        ("flag: 'true'", "true or false"),
        ("count: true", "a whole number from 0 to 100"),
        ("count: 1.0", "a whole number from 0 to 100"),
        ("count: '7'", "a whole number from 0 to 100"),
        ("count: 101", "a whole number from 0 to 100"),
        ("count: -1", "a whole number from 0 to 100"),
        ("count: null", "a whole number from 0 to 100"),
        ("count: [1]", "a whole number from 0 to 100"),
        ("count: !!int x", "a whole number from 0 to 100"),
        ("rate: true", "a finite number from 0.0 to 1.0"),
        ("rate: .nan", "a finite number from 0.0 to 1.0"),
        ("rate: nan", "a finite number from 0.0 to 1.0"),
        ("rate: half", "a finite number from 0.0 to 1.0"),
        ("rate: 1.0001", "a finite number from 0.0 to 1.0"),
        ("pair: {tight: {low: .inf}}", "a finite number of at least 0.0, or null"),
        ("pair: {tight: {low: 1" + "0" * 400 + "}}", "a finite number of at least 0.0, or null"),
        ("pair: {tight: {low: -1}}", "a finite number of at least 0.0, or null"),
        ("kind: green", "one of red, blue"),
        ("kind: [red]", "one of red, blue"),
        ("name: 12", "text"),
        ("name: no", "text"),
        ("name: ''", "text that is not empty"),
        ("name:", "text that is not empty"),
        ("place: 2024-01-01", "a path, or null"),
        ("place: ''", "a path, or null that is not empty"),
        ('place: "a\\0b"', "a path, or null that is not empty"),
        ("place: ~nosuchuser/x", "a path, or null"),
        ("shape: [1]", "a list of 2, each a whole number from 1 to 9"),
        ("shape: [1, 2, 3]", "a list of 2, each a whole number from 1 to 9"),
        ("shape: 1", "a list of 2, each a whole number from 1 to 9"),
        ("shape: {a: 1}", "a list of 2, each a whole number from 1 to 9"),
        ("shape: [1, 10]", "a whole number from 1 to 9"),
        ("edges: [0, x]", "a finite number from 0.0 to 1.0"),
        ("inner: x", "a mapping with the keys need, size, note"),
        ("pair: null", "a mapping with the keys tight, loose"),
        ("pair: []", "a mapping with the keys tight, loose"),
    ],
)
def test_a_wrong_value_is_named_with_key_line_and_choices(
    tmp_path: Path, line: str, expected: str
) -> None:
    message = refusal(tmp_path, f"# first line\n{line}\n")
    key = line.split(":")[0]
    assert f"where:    {tmp_path / 'config.yaml'}:2: {key}" in message
    assert f"expected: {expected}\n" in message + "\n"
    assert "  got:      " in message


def test_the_wrong_element_of_a_list_is_named(tmp_path: Path) -> None:
    message = refusal(tmp_path, "shape:\n  - 1\n  - 10\n")
    assert "config.yaml:3: shape[1]" in message
    assert "got:      10" in message


def test_unknown_keys_get_choices_and_a_suggestion(tmp_path: Path) -> None:
    message = refusal(tmp_path, "pair:\n  tigth: {}\n")
    assert "unknown key 'tigth'" in message
    assert "config.yaml:2: pair.tigth" in message
    assert "one of tight, loose" in message
    assert "did you mean 'tight'?" in message
    assert "did you mean" not in refusal(tmp_path, "zzzzzz: 1")
    assert "unknown key 'source'" in refusal(tmp_path, "source: x")  # internal
    assert "unknown key" in refusal(tmp_path, "? [a, b]\n: 1\n")


def test_all_problems_come_in_one_message(tmp_path: Path) -> None:
    message = refusal(tmp_path, "zzz: 1\ncount: x\nshape: [0, 10]\ninner: {size: 9}\nrate: ${NO}\n")
    assert message.startswith(f"7 problems in {tmp_path / 'config.yaml'}\n")
    for part in (":1: zzz", ":2: count", ":3: shape[0]", ":3: shape[1]", ":4: inner.size"):
        assert part in message
    assert "inner.need is missing" in message
    assert "NO, which is not set" in message


def test_missing_required_keys_are_named(tmp_path: Path) -> None:
    assert "inner.need is missing" in refusal(tmp_path, "{}", Strict)
    assert "inner.need is missing" in refusal(tmp_path, "inner:\n", Strict)
    assert "inner.need is missing" in refusal(tmp_path, "inner: {size: 2}", Strict)


def test_a_section_in_part_keeps_the_defaults_of_its_field(tmp_path: Path) -> None:
    made = parse(tmp_path, "pair: {tight: {low: 0.5}}")
    assert made.pair == Pair(tight=Limits(low=0.5, high=2.0), loose=Limits(low=4.0))
    made = parse(tmp_path, "pair: {loose: {high: 5}}")
    assert made.pair == Pair(loose=Limits(low=4.0, high=5.0))
    assert parse(tmp_path, "pair: {tight: {low: null}}").pair.tight == Limits(low=None, high=2.0)


def test_an_empty_section_is_all_defaults(tmp_path: Path) -> None:
    assert parse(tmp_path, "pair:\n  # low: 1\ninner:\n") == Outer()
    assert parse(tmp_path, "{}") == Outer()


def test_keys_given_twice(tmp_path: Path) -> None:
    message = refusal(tmp_path, "count: 1\nflag: true\ncount: 2\n")
    assert "count is given twice" in message
    assert "config.yaml:3: count" in message


def test_variables_expand(tmp_path: Path) -> None:
    def value(text: str, **environ: str) -> Any:
        return parse(tmp_path, text, **environ)

    assert value("place: ${A}/x/${B:-y}", A="/a").place == Path("/a/x/y")
    assert value("name: a${A}c", A="b").name == "abc"
    assert value("name: ${A}", A="12").name == "12"  # text stays text
    assert value("name: ${A}", A="${B}", B="no").name == "${B}"  # once only
    assert value("name: ${A:-x}", A="").name == "x"
    assert value("name: $A and $$", A="no").name == "$A and $$"
    assert value("count: ${A}", A="5").count == 5
    assert value("{count: '${A:-6}'}").count == 6
    assert value("flag: ${A}", A="true").flag is True
    assert value("rate: ${A}", A="1e-3").rate == 0.001
    assert value("kind: ${A}", A="blue").kind == "blue"
    assert value("place: ${A:-}").place is None
    assert value("shape: [1, '${A}']", A="2").shape == (1, 2)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("place: ${A}/x", "needs the environment variable A, which is not set"),
        ("name: ${A", "expected: ${NAME} or ${NAME:-default}"),
        ("name: ${}", "expected: ${NAME} or ${NAME:-default}"),
        ("name: ${A:-${B}}", "expected: ${NAME} or ${NAME:-default}"),
        ("name: ${1A}", "expected: ${NAME} or ${NAME:-default}"),
        ("count: ${X}", "got:      seven"),
        ("name: ${EMPTY}", "that is not empty"),
    ],
)
def test_variables_that_cannot_expand(tmp_path: Path, line: str, part: str) -> None:
    assert part in refusal(tmp_path, line, X="seven", EMPTY="")


def test_home_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert parse(tmp_path, "place: ~/x").place == Path("/home/someone/x")
    assert parse(tmp_path, "place: ${A}/x", A="~").place == Path("/home/someone/x")
    assert parse(tmp_path, "name: ~/x").name == "/home/someone/x"
    assert parse(tmp_path, "place: ~").place is None  # YAML's null
    assert parse(tmp_path, "place: ./a/../b").place == tmp_path / "a/../b"
    (tmp_path / "config.yaml").write_text("place: x")
    monkeypatch.chdir(tmp_path)
    assert parse_yaml(Outer, Path("config.yaml"), {}).place == tmp_path / "x"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "the config file is empty"),
        ("# only a comment\n", "the config file is empty"),
        ("- 1\n", "the config file is no mapping"),
        ("just text\n", "the config file is no mapping"),
        ("count: 1\n  flag: [\n", "config.yaml:2:7"),
        ("count: [1, 2\n", "config.yaml:2:1"),
        ("a: *nothing\n", "config.yaml:1:4"),
        ("count: 1\n---\ncount: 2\n", "config.yaml:2:1"),
        ("count: \x01\n", "this is not YAML"),
        ("a: " + "[" * 2000, "this is not YAML"),
        (b"count: 1\nname: caf\xe9\n", "config.yaml:2\n  got:      byte 0xe9"),
    ],
)
def test_broken_files(tmp_path: Path, text: str | bytes, part: str) -> None:
    message = refusal(tmp_path, text)
    assert part in message
    assert str(tmp_path / "config.yaml") in message


def test_unreadable_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(ConfigError, match="cannot be read"):
            parse_yaml(Outer, path, {})


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    assert parse(tmp_path, b"\xef\xbb\xbfcount: 4\r\n").count == 4


def test_nothing_is_constructed_from_tags(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    message = refusal(tmp_path, f"name: !!python/object/apply:os.mkdir ['{marker}']")
    assert "expected: text" in message
    assert not marker.exists()


def test_aliases_do_not_blow_up(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 30)]
    assert "problems" in refusal(tmp_path, "\n".join(lines))
    assert "cannot be this" in refusal(tmp_path, "edges: &x [*x]")


@settings(max_examples=60, deadline=None, database=None)
@given(text=st.text(max_size=60))
def test_any_text_is_a_value_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for content in (text, f"name: {text}", f"edges: [{text}]", f"inner: {{need: {text}}}"):
        try:
            parse(folder, content.encode("utf-8", "surrogatepass"))
        except ConfigError:
            continue


@settings(max_examples=100, deadline=None, database=None)
@given(rate=st.floats(0, 1), count=st.integers(0, 100), flag=st.booleans())
def test_numbers_survive(
    tmp_path_factory: pytest.TempPathFactory, rate: float, count: int, flag: bool
) -> None:
    made = parse(tmp_path_factory.mktemp("n"), f"rate: {rate!r}\ncount: {count}\nflag: {flag}\n")
    assert (made.rate, made.count, made.flag) == (rate, count, flag)


def env(folder: Path, text: str | bytes) -> dict[str, str]:
    path = folder / ".env"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_env_file(path, ("A", "KEY"))


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("  export A = b c  ", "b c"),
        ("A=", ""),
        ("A= # nothing", ""),
        ("A=b # comment", "b"),
        ("A=b#c", "b#c"),
        ("A=#c", "#c"),
        ("A=b=c", "b=c"),
        ("A=it's", "it's"),
        ("A='b # c' # comment", "b # c"),
        ("A=' b\\n '", " b\\n "),
        ('A="b\\n\\"c\\" \\\\ \\$ \\x"', 'b\n"c" \\ $ \\x'),
        ("A=${B}", "${B}"),
        ("A=b\r", "b"),
        (
            'A="-----BEGIN KEY-----\r\nMIIB\n-----END KEY-----"  # new',
            "-----BEGIN KEY-----\nMIIB\n-----END KEY-----",
        ),
        ("export A='1\nB=2\n'", "1\nB=2\n"),
        ("A", None),
        ("export A", None),
        ("A.b=1", None),
        ("A-B=1", None),
        ("B='unclosed\nA=2", "2"),
        ("B='unclosed\nA='2'", "2"),
        ('B: 1\n1A=x\n=y\nB = "1" 2\nsome words\nA=2', "2"),
    ],
)
def test_env_lines_of_ours_beside_those_of_other_programs(
    tmp_path: Path, line: str, value: str | None
) -> None:
    found = env(tmp_path, f"# comment\n\n{line}\nKEY=after\n")
    assert found == {"A": value, "KEY": "after"} if value is not None else {"KEY": "after"}


def test_env_files_that_are_empty_missing_or_repeat(tmp_path: Path) -> None:
    assert env(tmp_path, "") == {}
    assert env(tmp_path, "# A=b\n") == {}
    assert env(tmp_path, b"\xef\xbb\xbfA=1\nB=2\nA=3") == {"A": "3", "B": "2"}
    assert read_env_file(tmp_path / "missing", ()) == {}


@pytest.mark.parametrize(
    ("line", "got"),
    [
        ("A secret", "A without = behind it"),
        ("export A: secret", "A without = behind it"),
        ("A='secret", "A=…"),
        ('A="secret" more', "A=…"),
        ('A = "secret\nB="secret"', "A=…"),
    ],
)
def test_broken_env_lines_are_named_without_their_secret(
    tmp_path: Path, line: str, got: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        env(tmp_path, f"A=1\n{line}\n")
    assert f"{tmp_path / '.env'}:2\n  got:      {got}\n" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_unreadable_env_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_env_file(tmp_path, ())
    with pytest.raises(ConfigError, match="not UTF-8"):
        env(tmp_path, b"A=\xff\n")
