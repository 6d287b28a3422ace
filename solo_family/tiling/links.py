"""Which of several masks of one object stay, and which of those that stay are joined."""

from collections import defaultdict

from .matching import Link


class Links:
    """The links between the objects of an image, which are numbered by their ranks.

    Args:
        count: the number of objects.
        merge: "join" or "nms"; see `merge_instances`.
    """

    def __init__(self, count: int, merge: str) -> None:
        self._count = count
        self._joins = merge == "join"
        # For each object those that are kept rather than it, and those that it is joined with.
        self._better: dict[int, list[int]] = defaultdict(list)
        self._joined: list[tuple[int, int]] = []

    def add(self, link: Link) -> None:
        """Take a link into account."""
        first, last = sorted((link.better, link.other))
        if self._joins and link.joins:
            self._joined.append((first, last))
        elif self._joins:
            self._better[link.other].append(link.better)
        else:
            self._better[last].append(first)

    def groups(self) -> list[list[int]]:
        """Return the objects of the image, each as the indices of its masks, ascending.

        The objects are in the order of their best masks.
        """
        kept = self._kept()
        places = connected(
            self._count, [pair for pair in self._joined if kept[pair[0]] and kept[pair[1]]]
        )
        groups: dict[int, list[int]] = defaultdict(list)
        for index, place in enumerate(places):
            if kept[index]:
                groups[place].append(index)
        return sorted(groups.values())

    def _kept(self) -> list[bool]:
        """Tell which masks stay: those of which no better one stays."""
        kept: list[bool | None] = [None] * self._count
        for index in range(self._count):
            stack = [index]
            while stack:
                top = stack[-1]
                open_ = [other for other in self._better[top] if kept[other] is None]
                # In a circle, which contradictory masks may form, the first one that is looked at
                # again counts as dropped.
                open_ = [other for other in open_ if other not in stack]
                if kept[top] is None and open_:
                    stack.append(open_[0])
                    continue
                if kept[top] is None:
                    kept[top] = not any(kept[other] for other in self._better[top])
                stack.pop()
        return [bool(value) for value in kept]


def connected(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Return, for each of `count` things, the least of those that pairs connect it with."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return [root(index) for index in range(count)]
