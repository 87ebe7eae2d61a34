"""YAML into models of pydantic, every problem with its line and key.

All problems of a file are collected, so that a user mends it in one round.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml  # type: ignore[import-untyped]
from pydantic import ValidationError

from pillsnap.config.fields import (
    FILL,
    choices_behind,
    describe,
    is_optional,
    keys_of,
    path_of,
    without_null,
)
from pillsnap.core.errors import ConfigError
from pillsnap.core.textfiles import read_text

T = TypeVar("T")

_NULL, _TEXT = "tag:yaml.org,2002:null", "tag:yaml.org,2002:str"
_NUMBERS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float"))
# Stands for a value whose problem is known already; every type refuses it.
_REFUSED = object()
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^${}]*))?\}")


def parse_yaml(cls: type[T], path: Path, environ: Mapping[str, str]) -> T:
    """Read a YAML mapping into a frozen dataclass of pydantic.

    It says what is accepted: bool, int, float, str, Path, Literal, X | None, tuples of one type and
    nested dataclasses. A section that gives some of its keys keeps the field's default for the
    others. `~`, `${NAME}` and `${NAME:-default}` expand (the default also stands in for an empty
    variable, as in a shell); relative paths start at the file's folder, but for URLs.

    Raises:
        ConfigError: all problems of the file, each with its line, key, value and choices.
    """
    try:
        # Nodes instead of values: they keep line numbers and duplicate keys.
        root = yaml.compose(read_text(path, ConfigError), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}"
        raise ConfigError("this is not YAML", where=place, got=error.problem) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(
            "this is not YAML", where=path, got=" ".join(str(error).split())
        ) from None
    if root is None:
        raise ConfigError("the config file is empty", where=path, expected=describe(cls))
    reader = _Reader(path, environ)
    made: T = reader.section(cls, root, None, "")
    if made is root:
        what = "the config file is no mapping"
        reader.report(what, root, "", got=_show(root), expected=describe(cls))
    problems = [problem for _, problem in sorted(reader.problems, key=lambda each: each[0])]
    if len(problems) > 1:
        raise ConfigError(f"{len(problems)} problems in {path}", details=problems)
    if problems:
        raise problems[0]
    return made


def variable_names(path: Path) -> set[str]:
    """Names that a YAML file uses as ${NAME}, in comments too; raises ConfigError."""
    return {match[1] for match in _VARIABLE.finditer(read_text(path, ConfigError))}


def _show(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return f"a list of {len(node.value)}"
    text = str(node.value)
    if len(text) > 80:
        text = text[:79] + "…"
    return repr(text) if node.style or not text else text


class _Reader:
    """Hands the values of nodes to pydantic; collects its problems and those of YAML.

    A value is the node itself where that is no such value, which every type refuses.
    """

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self.folder = path.absolute().parent
        self.environ = environ
        self.nodes: dict[str, yaml.Node] = {}  # by key, variables replaced
        self.problems: list[tuple[float, ConfigError]] = []  # with their lines
        self.loader = yaml.SafeLoader("")

    def report(self, what: str, node: yaml.Node | None, key: str, **facts: Any) -> None:
        line = math.inf if node is None else node.start_mark.line
        place = str(self.path) if node is None else f"{self.path}:{node.start_mark.line + 1}"
        error = ConfigError(what, where=f"{place}: {key}" if key else place, **facts)
        self.problems.append((line, error))

    def refuse(self, node: yaml.Node, key: str, expected: str, **facts: Any) -> object:
        self.report(f"{key} cannot be this", node, key, got=_show(node), expected=expected, **facts)
        return _REFUSED

    def section(self, cls: Any, node: yaml.Node | None, base: Any, key: str) -> Any:
        """A dataclass from a mapping; `base` gives the keys left out, without it the class does."""
        if isinstance(node, yaml.MappingNode):
            pairs = node.value
        elif node is None or node.value == "":  # all keys left out, or commented out
            pairs = []
        else:
            return node
        known, hints, prefix = keys_of(cls), get_type_hints(cls), f"{key}." if key else ""
        values: dict[str, Any] = {}
        for name_node, node_of_value in pairs:
            name = name_node.value if isinstance(name_node, yaml.ScalarNode) else _show(name_node)
            full = prefix + name
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else None
                expected = "one of " + ", ".join(known)
                self.report(f"unknown key {name!r}", name_node, full, expected=expected, hint=hint)
            elif name in values:
                self.report(f"{full} is given twice", name_node, full)
            else:
                default = getattr(cls if base is None else base, name, None)
                values[name] = self.value(hints[name], node_of_value, full, default)
        for name in known if base is None else ():
            if is_dataclass(hints[name]) and not (name in values or hasattr(cls, name)):
                # To name the keys that are missing in it.
                values[name] = self.section(hints[name], None, None, prefix + name)
        try:
            return cls(**values) if base is None else replace(base, **values)
        except ValidationError as wrong:
            self.translate(wrong, get_type_hints(cls, include_extras=True), node, prefix)
            return _REFUSED

    def translate(
        self, wrong: ValidationError, hints: dict[str, Any], node: yaml.Node | None, prefix: str
    ) -> None:
        """Report what pydantic says of a section."""
        for error in wrong.errors(include_url=False):
            name, *places = map(str, error["loc"])
            hint, key = hints[name], prefix + name
            if places:
                hint, key = get_args(without_null(hint))[0], f"{key}[{places[0]}]"
            if error["input"] is _REFUSED:
                continue
            if key in self.nodes:
                section = without_null(hint)
                expected = describe(section if is_dataclass(section) else hint)
                self.refuse(self.nodes[key], key, expected)
            else:
                self.report(f"{key} is missing", node, key, expected=describe(hint))

    def value(self, hint: Any, node: yaml.Node, key: str, default: Any) -> Any:
        """What pydantic is given for a node; `default` is what a section starts from."""
        is_variable = isinstance(node, yaml.ScalarNode) and "${" in node.value
        if is_variable:
            node = self.substitute(node, key)
            if node is None:
                return _REFUSED
        self.nodes[key] = node
        if isinstance(node, yaml.ScalarNode) and node.value == FILL:
            choices = choices_behind(node) or describe(hint)
            self.report(f"{key} is to be filled in", node, key, expected=choices)
            return _REFUSED
        if is_optional(hint) and node.tag == _NULL:
            return None
        kind = without_null(hint)
        if is_dataclass(kind):
            short = getattr(kind, "SHORT", None)
            if short and isinstance(node, yaml.ScalarNode) and node.value:
                name = yaml.ScalarNode(_TEXT, short, node.start_mark, node.end_mark)
                node = yaml.MappingNode("", [(name, node)], node.start_mark, node.end_mark)
            return self.section(kind, node, default, key)
        if get_origin(kind) is tuple:
            first, *others = get_args(kind)
            fits = isinstance(node, yaml.SequenceNode) and (
                Ellipsis in others or len(node.value) == 1 + len(others)
            )
            if not fits:
                return node
            return tuple(
                self.value(first, element, f"{key}[{index}]", None)
                for index, element in enumerate(node.value)
            )
        if not isinstance(node, yaml.ScalarNode):
            return node
        if get_origin(kind) is Literal:
            return next((each for each in get_args(kind) if str(each) == node.value), node)
        if kind in (str, Path):
            if node.tag != _TEXT and node.value and not is_variable:
                hint_ = "put it in quotes if it is meant as text"
                return self.refuse(node, key, describe(hint), hint=hint_)
            return self.text(hint, node, key)
        try:
            # YAML 1.1 takes 1e-4 for text: its floats need a dot.
            if kind is float and node.tag in (*_NUMBERS[1:], _TEXT):
                return float(self.loader.construct_object(node))
            return self.loader.construct_object(node) if node.tag in _NUMBERS else node
        except (ValueError, KeyError, OverflowError):
            return node

    def substitute(self, node: yaml.ScalarNode, key: str) -> yaml.ScalarNode | None:
        """The node with its variables replaced and its type found anew: they may hold numbers."""
        raw: str = node.value
        if "${" in _VARIABLE.sub("", raw):
            expected = "${NAME} or ${NAME:-default}"
            self.report(f"{key} has a broken variable", node, key, got=raw, expected=expected)
            return None
        for match in _VARIABLE.finditer(raw):
            if match[1] not in self.environ and match[2] is None:
                hint = f"set {match[1]}, or write ${{{match[1]}:-default}}"
                what = f"{key} needs the environment variable {match[1]}, which is not set"
                self.report(what, node, key, got=raw, hint=hint)
                return None
        text = _VARIABLE.sub(lambda match: self.environ.get(match[1], "") or match[2] or "", raw)
        tag = self.loader.resolve(yaml.ScalarNode, text, (True, False))
        return yaml.ScalarNode(tag, text, node.start_mark, node.end_mark)

    def text(self, hint: Any, node: yaml.ScalarNode, key: str) -> Any:
        """A str, or a Path made absolute."""
        text: str = node.value
        if not text or "\0" in text:
            return self.refuse(node, key, f"{describe(hint)} that is not empty")
        if text.startswith("~"):
            try:
                text = str(Path(text).expanduser())
            except RuntimeError:
                why = "there is no such home folder"
                return self.refuse(node, key, describe(hint), hint=why)
        if without_null(hint) is str:
            return text
        try:
            return path_of(text, key, self.folder, f"{self.path}:{node.start_mark.line + 1}: {key}")
        except ValueError as error:
            return self.refuse(node, key, describe(hint), hint=str(error))
