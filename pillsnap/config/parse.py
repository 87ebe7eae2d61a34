"""YAML into frozen dataclasses by their annotations.

Every problem of a file is collected, so that a user mends it in one round.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml  # type: ignore[import-untyped]

from pillsnap.config.fields import (
    Range,
    bound_of,
    default_of,
    describe,
    is_optional,
    is_too_long,
    is_within,
    keys_of,
)
from pillsnap.core.errors import ConfigError
from pillsnap.core.textfiles import read_text

T = TypeVar("T")

_NULL, _TEXT = "tag:yaml.org,2002:null", "tag:yaml.org,2002:str"
_NUMBER_TAGS = {
    bool: ("tag:yaml.org,2002:bool",),
    int: ("tag:yaml.org,2002:int",),
    # YAML 1.1 takes 1e-4 for text: its floats need a dot.
    float: ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", _TEXT),
}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^${}]*))?\}")


def parse_yaml(cls: type[T], path: Path, environ: Mapping[str, str]) -> T:
    """Read a YAML mapping into a frozen dataclass.

    Annotations say what is accepted: bool, int, float, str, Path, Literal, X | None, tuples and
    nested dataclasses. A section that gives some of its keys keeps the field's default for the
    others. `~`, `${NAME}` and `${NAME:-default}` expand (the default also stands in for an empty
    variable, as in a shell); relative paths start at the file's folder.

    Args:
        cls: the dataclass; fields with metadata {"internal": True} are no keys.
        path: the file, UTF-8.
        environ: where `${NAME}` is looked up.

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
    if len(reader.problems) > 1:
        raise ConfigError(f"{len(reader.problems)} problems in {path}", details=reader.problems)
    if reader.problems:
        raise reader.problems[0]
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
    """Turns nodes into values; collects the problems, beside which the values mean nothing."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self.folder = path.absolute().parent
        self.environ = environ
        self.problems: list[ConfigError] = []
        self.loader = yaml.SafeLoader("")

    def error(self, what: str, node: yaml.Node | None, key: str, **facts: Any) -> ConfigError:
        place = str(self.path) if node is None else f"{self.path}:{node.start_mark.line + 1}"
        return ConfigError(what, where=f"{place}: {key}" if key else place, **facts)

    def refusal(self, node: yaml.Node, key: str, expected: str, **facts: Any) -> ConfigError:
        what = f"{key} cannot be this" if key else "the config file is no mapping"
        return self.error(what, node, key, got=_show(node), expected=expected, **facts)

    def section(self, cls: Any, node: yaml.Node | None, base: Any, key: str) -> Any:
        """A dataclass from a mapping; `base` gives the keys left out, without it the class does."""
        if isinstance(node, yaml.MappingNode):
            pairs = node.value
        elif node is None or node.value == "":  # all keys left out, or commented out
            pairs = []
        else:
            self.problems.append(self.refusal(node, key, describe(cls)))
            return None
        known, hints, prefix = keys_of(cls), get_type_hints(cls), f"{key}." if key else ""
        problems_before = len(self.problems)
        values: dict[str, Any] = {}
        for name_node, node_of_value in pairs:
            name = name_node.value if isinstance(name_node, yaml.ScalarNode) else _show(name_node)
            full = prefix + name
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else None
                expected = "one of " + ", ".join(known)
                problem = self.error(
                    f"unknown key {name!r}", name_node, full, expected=expected, hint=hint
                )
                self.problems.append(problem)
            elif name in values:
                self.problems.append(self.error(f"{full} is given twice", name_node, full))
            else:
                default = default_of(known[name]) if base is None else getattr(base, name)
                bound = bound_of(known[name])
                values[name] = self.value(hints[name], node_of_value, full, bound, default)
        for name, item in known.items():
            if base is not None or name in values or default_of(item) is not MISSING:
                continue
            full = prefix + name
            if is_dataclass(hints[name]):  # to name the keys that are missing in it
                self.section(hints[name], None, None, full)
            else:
                expected = describe(hints[name], bound_of(item))
                self.problems.append(
                    self.error(f"{full} is missing", node, full, expected=expected)
                )
        if len(self.problems) > problems_before:
            return None
        return cls(**values) if base is None else replace(base, **values)

    def value(self, hint: Any, node: yaml.Node, key: str, bound: Range, default: Any) -> Any:
        """What an annotation makes of a node; `default` is what a section starts from."""
        try:
            return self.convert(hint, node, key, bound, default)
        except ConfigError as problem:
            self.problems.append(problem)
            return None

    def convert(self, hint: Any, node: yaml.Node, key: str, bound: Range, default: Any) -> Any:
        """`value`, with the problem of a scalar or a whole list raised."""
        expected = describe(hint, bound)
        had_variable = isinstance(node, yaml.ScalarNode) and "${" in node.value
        if had_variable:
            node = self.substitute(node, key)
        if is_optional(hint):
            if node.tag == _NULL:
                return None
            hint = get_args(hint)[0]
        args = get_args(hint)
        if is_dataclass(hint):
            return self.section(hint, node, default if is_dataclass(default) else None, key)
        if get_origin(hint) is tuple:
            if not isinstance(node, yaml.SequenceNode):
                raise self.refusal(node, key, expected)
            hints = args[:1] * len(node.value) if args[-1] is Ellipsis else args
            if len(hints) != len(node.value):
                raise self.refusal(node, key, expected)
            return tuple(
                self.value(each, element, f"{key}[{index}]", bound, None)
                for index, (each, element) in enumerate(zip(hints, node.value, strict=True))
            )
        if not isinstance(node, yaml.ScalarNode):
            raise self.refusal(node, key, expected)
        if get_origin(hint) is Literal:
            for choice in args:
                if str(choice) == node.value:
                    return choice
            raise self.refusal(node, key, expected)
        if hint in _NUMBER_TAGS:
            number = self.number(hint, node)
            if number is None or not is_within(number, bound):
                raise self.refusal(node, key, expected)
            return number
        if node.tag != _TEXT and node.value and not had_variable:
            raise self.refusal(node, key, expected, hint="put it in quotes if it is meant as text")
        return self.text(hint, node, key, expected)

    def substitute(self, node: yaml.ScalarNode, key: str) -> yaml.ScalarNode:
        """The node with its variables replaced and its type found anew: they may hold numbers."""
        raw: str = node.value
        if "${" in _VARIABLE.sub("", raw):
            raise self.error(
                f"{key} has a broken variable",
                node,
                key,
                got=raw,
                expected="${NAME} or ${NAME:-default}",
            )
        for match in _VARIABLE.finditer(raw):
            if match[1] not in self.environ and match[2] is None:
                hint = f"set {match[1]}, or write ${{{match[1]}:-default}}"
                what = f"{key} needs the environment variable {match[1]}, which is not set"
                raise self.error(what, node, key, got=raw, hint=hint)
        text = _VARIABLE.sub(lambda match: self.environ.get(match[1], "") or match[2] or "", raw)
        tag = self.loader.resolve(yaml.ScalarNode, text, (True, False))
        return yaml.ScalarNode(tag, text, node.start_mark, node.end_mark)

    def number(self, hint: Any, node: yaml.ScalarNode) -> bool | int | float | None:
        """A bool, an int or a finite float; None if the node is none."""
        if node.tag not in _NUMBER_TAGS[hint]:
            return None
        try:
            number: bool | int | float = hint(self.loader.construct_object(node))
        except (ValueError, KeyError, OverflowError):
            return None
        return number if math.isfinite(number) else None

    def text(self, hint: Any, node: yaml.ScalarNode, key: str, expected: str) -> str | Path:
        """A str, or a Path made absolute."""
        text: str = node.value
        if not text or "\0" in text:
            raise self.refusal(node, key, f"{expected} that is not empty")
        if text.startswith("~"):
            try:
                text = str(Path(text).expanduser())
            except RuntimeError:
                raise self.refusal(
                    node, key, expected, hint="there is no such home folder"
                ) from None
        if hint is not Path:
            return text
        if is_too_long(self.folder / text):
            raise self.refusal(node, key, expected, hint="the path is too long: shorten it")
        return self.folder / text
