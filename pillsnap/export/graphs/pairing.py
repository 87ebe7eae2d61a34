"""Which node of one graph is which of another, whatever their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from difflib import SequenceMatcher

from pillsnap.export.graphs.nodes import Node

Key = Callable[[Node], Hashable]

# More pairs of nodes are not aligned: two graphs of which nothing is the same.
_MOST = 10**7


def pair_nodes(wanted: Sequence[Node], found: Sequence[Node]) -> dict[Node, Node]:
    """The found node of each wanted one that has one: first what is computed from the same, then
    what is from the same structure; the rest are aligned like lines of two texts, by all that is
    in a node, by operator and shapes, by operator, and at last by place alone.

    Args:
        wanted, found: in the order of Nodes.
    """
    pairs: dict[Node, Node] = {}
    keys: tuple[Key, ...] = (lambda node: node.digest, lambda node: node.structure)
    for key in keys:
        left = _left(wanted, found, pairs)
        theirs = defaultdict(list)
        for node in left[1]:
            theirs[key(node)].append(node)
        ours = defaultdict(list)
        for node in left[0]:
            ours[key(node)].append(node)
        for of, nodes in ours.items():
            pairs |= _by_name(nodes, theirs[of])
    _align(*_left(wanted, found, pairs), (_own, _form, lambda node: node.operator), pairs)
    return pairs


def _left(
    wanted: Sequence[Node], found: Sequence[Node], pairs: dict[Node, Node]
) -> tuple[list[Node], list[Node]]:
    taken = set(pairs.values())
    return [n for n in wanted if n not in pairs], [n for n in found if n not in taken]


def _by_name(wanted: list[Node], found: list[Node]) -> dict[Node, Node]:
    """Of nodes that may stand for each other those of a name first, then in their order."""
    named = {node.name: node for node in found}
    pairs = {node: named.pop(node.name) for node in wanted if node.name in named}
    return pairs | dict(zip(*_left(wanted, found, pairs), strict=False))


def _own(node: Node) -> Hashable:
    constants = tuple(value.constant and value.digest for value in node.inputs)
    return node.operator, tuple(node.attributes.items()), constants


def _form(node: Node) -> Hashable:
    return node.operator, tuple(value.constant and value.constant.form for value in node.inputs)


def _align(
    wanted: list[Node], found: list[Node], keys: tuple[Key, ...], pairs: dict[Node, Node]
) -> None:
    if not keys:
        if len(wanted) == len(found):
            pairs.update(zip(wanted, found, strict=True))
        return
    if len(wanted) * len(found) > _MOST:
        return
    ours, theirs = ([keys[0](node) for node in nodes] for nodes in (wanted, found))
    for tag, i, j, k, m in SequenceMatcher(None, ours, theirs).get_opcodes():
        if tag == "equal":
            pairs.update(zip(wanted[i:j], found[k:m], strict=True))
        elif tag == "replace":
            _align(wanted[i:j], found[k:m], keys[1:], pairs)
