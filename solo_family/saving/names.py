"""Names for files of one folder."""

from collections.abc import Iterable


class Names:
    """Names for files, of which no two are the same, in upper or lower case.

    Some file systems don't distinguish these.

    Args:
        taken: those of files that are there, in lower case.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def new(self, stem: str) -> str:
        """Return a name, with a number if it was there."""
        name, copy = stem, 2
        while name.lower() in self._taken:
            name, copy = f"{stem}_{copy}", copy + 1
        self._taken.add(name.lower())
        return name
