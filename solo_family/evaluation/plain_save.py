"""Saving of plain numbers and texts in torch's format, without the time that tensors would need.

torch's pickler calls a function of Python for each number, to ask whether it is a tensor. Results
in COCO's format have none.
"""

import pickle
import sys
from typing import IO, Any

import torch


def save_plain(content: Any, file: IO[bytes]) -> None:
    """Write a file that `torch.load` reads, also with `weights_only`.

    Args:
        content: lists and dicts of numbers and texts; no tensors.
        file: open for writing.
    """
    # This module stands for the pickle module, of which torch takes the class `Pickler`.
    torch.save(content, file, pickle_module=sys.modules[__name__])


class Pickler(pickle.Pickler):
    """A base for torch's pickler that leaves the work to one that asks nothing.

    Args:
        file: open for writing.
        protocol: of the pickle.
    """

    def __init__(self, file: IO[bytes], protocol: int) -> None:
        super().__init__(file, protocol)
        self._asks_nothing = pickle.Pickler(file, protocol)

    def dump(self, content: Any) -> None:
        """Write `content`, as `pickle.Pickler.dump` does."""
        self._asks_nothing.dump(content)
