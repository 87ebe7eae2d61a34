"""Which class of the detector each category of a label file is: by name, else by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pillsnap.core.errors import DataError
from pillsnap.data.spellings import compose


@dataclass(frozen=True)
class Categories:
    """The categories of a COCO file, in the order of their ids, or the names of a data.yaml.

    Attributes:
        names, above: name and supercategory of each.
        used: places of those that a box has.
        key: of the file, that they stand under.
    """

    source: Path
    names: tuple[str, ...]
    above: tuple[str, ...]
    used: frozenset[int]
    key: str = "categories"

    def resolve(
        self, class_names: Sequence[str], num_classes: int
    ) -> tuple[dict[int, int], str | None]:
        """The class of each place that is used, and what is to be said of it.

        By name where the detector knows the names. Where it knows none of them, by place: unused
        categories hold theirs, unless there are more categories than classes.

        Args:
            class_names: the detector's, in order; empty where they are not known.

        Raises:
            DataError: it knows some of them, or there are more categories than classes.
        """
        wanted = {_plain(name): index for index, name in enumerate(class_names)}
        known = {
            place: wanted[_plain(self.names[place])]
            for place in self.used
            if _plain(self.names[place]) in wanted
        }
        if len(wanted) < len(class_names) or not known:
            told = len(class_names) > 1 and len(self.used) > 0
            note = f"{self.source.name}: no category has the name of a class of the detector, so "
            note += "that they count by their place"
            return self._by_place(num_classes), note if told else None
        strangers = [self.names[place] for place in sorted(self.used - known.keys())]
        if strangers:
            raise DataError(
                "labels have categories that the detector has no class for",
                where=f"{self.source}: {self.key}",
                got=", ".join(map(repr, strangers[:5])),
                expected="the detector's class names: " + _some(class_names),
                hint="give the categories the detector's names, or take their boxes out",
            )
        note = f"{self.source.name}: categories are taken by name, since their order is not that "
        note += "of the detector's classes"
        rising = sorted(known.values()) == [known[place] for place in sorted(known)]
        return known, None if rising else note

    def _by_place(self, num_classes: int) -> dict[int, int]:
        places = list(range(len(self.names)))
        # Roboflow's exports begin with the project's name, which stands above the others.
        titles = {place for place in places if self.names[place] in self.above} - self.used
        for unused in (set(), titles, set(places) - self.used):
            left = [place for place in places if place not in unused]
            if len(left) <= num_classes and (not unused or len(left) == num_classes):
                return {place: index for index, place in enumerate(left) if place in self.used}
        raise DataError(
            "labels have more categories than the detector has classes",
            where=f"{self.source}: {self.key}",
            got=f"{len(self.names)}, {len(self.used)} of them with boxes: {_some(self.names)}",
            expected=f"{num_classes} (detection.num_classes)",
            hint="take out categories that are none of the detector's, or name them as it does",
        )


def _plain(name: str) -> str:
    return compose(name).strip().casefold()


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:8]))
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
