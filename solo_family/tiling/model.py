"""A model that predicts the images of a dataset by tiles, for evaluation.

H W of the image.
"""

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import nn

from ..data.loading.augmentation import detectron2_augmentation, resized_input
from ..data.loading.images import Reading
from ..data.loading.windows import open_windows
from ..errors import DataError
from .predict import predict_by_tiles
from .tiles import Tiling


class TiledModel(nn.Module):
    """A model whose inputs are image files, and whose results are those of whole images.

    Each tile is given to the model as an image of its size would be: resized by
    `INPUT.MIN_SIZE_TEST`, its masks at the size of the tile.

    Args:
        model: follows detectron2's contract.
        cfg: its configuration, with `TEST.TILE`.

    Attributes:
        unread: for each window that could not be read, which and why.
    """

    def __init__(self, model: nn.Module, cfg: CfgNode) -> None:
        super().__init__()
        self.model = model
        # detectron2's evaluation restores the mode that it finds, in the model within too.
        self.training = model.training
        self.unread: list[str] = []
        self._tiling = Tiling.from_config(cfg)
        self._format = cfg.INPUT.FORMAT
        self._reading = Reading.from_config(cfg)
        (self._resize,) = detectron2_augmentation(cfg, is_train=False)

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the predictions of images.

        Args:
            batched_inputs: detectron2's dicts of images, with `file_name`.

        Raises:
            DataError: an image can't be read at all, or has another size than its dict says.
        """
        return [self._predict_image(item) for item in batched_inputs]

    def _predict_image(self, item: dict[str, Any]) -> dict[str, Any]:
        path = item["file_name"]
        windows = open_windows(path, self._format, self._reading)
        given = (item.get("height"), item.get("width"))
        if None not in given and given != windows.size:
            raise DataError(
                f"{path} is {windows.size[0]} x {windows.size[1]}, but the dataset says "
                f"{given[0]} x {given[1]} (height x width). Correct the dataset's sizes."
            )
        found = predict_by_tiles(self._predict, windows, self._tiling, name=path)
        self.unread += found.unread
        return found.predictions

    def _predict(self, tiles: list[np.ndarray]) -> list[dict[str, Any]]:
        return self.model([resized_input(tile, self._resize) for tile in tiles])


def refuse_unread(unread: list[str]) -> None:
    """Raise what an incomplete prediction has to end with.

    Args:
        unread: for each window that could not be read, which and why.

    Raises:
        DataError: there are some.
    """
    if unread:
        raise DataError(
            f"{len(unread)} windows could not be read, and nothing is predicted there: {unread[0]}"
        )
