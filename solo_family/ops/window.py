"""A rectangular part of an image."""

from typing import NamedTuple


class Window(NamedTuple):
    """A part of an image: rows `top` to `bottom`, columns `left` to `right`, ends exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def intersection(self, other: "Window") -> "Window":
        """Return the intersection of two windows, which is empty if they do not overlap."""
        return Window(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    @property
    def is_empty(self) -> bool:
        """Whether the window has no pixels."""
        return self.bottom <= self.top or self.right <= self.left

    def __str__(self) -> str:
        return f"rows {self.top} to {self.bottom}, columns {self.left} to {self.right}"
