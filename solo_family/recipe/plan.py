"""Show a recipe as a table."""

from tabulate import tabulate

from .choice import Choice, value_of
from .fingerprint import Fingerprint
from .machine import Machine

_WIDTH = 46  # of a value
_FEW = 100  # iterations: the warm-up of the measured recipes


def plan(
    data: Fingerprint, machine: Machine, seconds: float, choices: list[Choice], notes: list[str]
) -> str:
    """Return what was seen, what was chosen and why, in lines.

    Args:
        data: the training images.
        machine: what trains.
        seconds: per iteration.
        choices: the lines of the config.
        notes: sentences to show before them.
    """
    rows = [(choice.key, _short(choice.value), choice.reason) for choice in choices]
    return "\n".join(
        [
            f"data: {_described(data)}",
            f"machine: {machine}; {seconds:g} s per iteration",
            *(f"note: {note}" for note in [*notes, *_few(choices)]),
            "",
            tabulate(rows, ("key", "value", "why"), disable_numparse=True),
        ]
    )


def _few(choices: list[Choice]) -> list[str]:
    """Return a note if the time suffices for few iterations only."""
    count = value_of("SOLVER.MAX_ITER", choices)
    return [f"{count} iterations are few: give more --minutes"] if count < _FEW else []


def _described(data: Fingerprint) -> str:
    """Return, in words, what the data are."""
    heights, widths = zip(*data.image_sizes)
    channels = " or ".join(map(str, data.channels))
    depth = ", more than 8 bits" if data.is_deep else ""
    return (
        f"{data.num_images} images of {min(heights)} x {min(widths)} to {max(heights)} x "
        f"{max(widths)} pixels (channels: {channels}{depth}), {data.contents}"
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
