"""Nodes in groups that are quantised or left float together: the modules they come from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

Groups = dict[str, tuple[str, ...]]


def group_nodes(names: Sequence[str], most: int, heavy: Collection[str] = ()) -> Groups:
    """Split nodes by module into `most` groups, or one for each node where there are fewer.

    A module is the beginning of a node's name, which TorchScript makes of the path in the torch
    model: `/model.10` of `/model.10/cv1/conv/Conv`. The group of the most heavy nodes, or else of
    the most nodes, is split by the next part of that path until there are enough groups. What would
    make too many, such as names without a path (the dynamo exporter's), is cut into runs of
    neighbours.

    Args:
        names: of nodes, in the graph's order; no two are equal.
        most: at least 1.
        heavy: those of the names that matter most, such as nodes with weights.

    Returns:
        The names of each group's nodes, in the order given, by the name of the group.
    """
    groups: Groups = {"": tuple(names)} if names else {}
    weighty = set(heavy)

    def size(name: str) -> tuple[int, int]:
        inside = groups[name]
        return len(weighty.intersection(inside)) if len(inside) > 1 else 0, len(inside)

    while len(groups) < most:
        largest = max(groups, key=size, default="")
        if len(groups.get(largest, ())) < 2:
            break
        parts = _runs(_split(groups.pop(largest)), most - len(groups))
        groups.update(parts)
    # Modules may be interleaved, as the branches of a detector's head are.
    place = {name: index for index, name in enumerate(names)}
    groups = {name: tuple(sorted(inside, key=place.__getitem__)) for name, inside in groups.items()}
    return dict(sorted(groups.items(), key=lambda group: place[group[1][0]]))


def _split(names: Sequence[str]) -> Groups:
    """Group at least two names by the first part of their paths in which they differ."""
    depth = 1
    while True:
        parts: dict[str, list[str]] = {}
        for name in names:
            parts.setdefault("/".join(name.split("/")[:depth]), []).append(name)
        if len(parts) > 1:
            return {part: tuple(inside) for part, inside in parts.items()}
        depth += 1


def _runs(groups: Groups, most: int) -> Groups:
    """Join neighbours until there are at most `most` groups."""
    if len(groups) <= most:
        return groups
    parts = list(groups.items())
    ends = [len(parts) * run // most for run in range(most + 1)]
    joined: Groups = {}
    for start, end in pairwise(ends):
        first, last = parts[start][0], parts[end - 1][0]
        name = first if end == start + 1 else f"{first} ... {last}"
        joined[name] = tuple(node for _, inside in parts[start:end] for node in inside)
    return joined
