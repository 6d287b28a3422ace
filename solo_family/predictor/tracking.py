"""Give the objects of a video ids that they keep from frame to frame.

N instances of a frame.
"""

import importlib
import logging
from typing import Any

import numpy as np
import torch

from ..errors import ConfigError
from .predictions import Predictions

# The number of an instance that belongs to no track.
NO_TRACK = -1

logger = logging.getLogger(__name__)


def tracking_packages() -> tuple[Any, Any]:
    """Return the packages `trackers` and `supervision`.

    Raises:
        ConfigError: one of them is not installed.
    """
    try:
        return importlib.import_module("trackers"), importlib.import_module("supervision")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--track needs {error.name}: pip install 'solo-family[track]'"
        ) from error


class Tracker:
    """The tracks of one video, by ByteTrack (arXiv 2110.06864) of the package `trackers`.

    Boxes are matched by their IoU with where a Kalman filter expects each track, whatever their
    classes; a track that is lost is remembered for a second. An object that appears has its number
    from its second frame on.

    Args:
        fps: frames per second.
        threshold: the lowest score that begins a track.

    Raises:
        ConfigError: the package is not installed.
    """

    def __init__(self, fps: float, threshold: float) -> None:
        trackers, self._supervision = tracking_packages()
        self._has_warned = False
        self._tracker = trackers.ByteTrackTracker(
            frame_rate=fps,
            track_activation_threshold=threshold,
            high_conf_det_threshold=threshold,
            minimum_consecutive_frames=1,
        )

    def __call__(self, predictions: Predictions) -> Predictions:
        """Return the predictions of the next frame with ids.

        Args:
            predictions: detectron2's dict, on the CPU; what has no instances is returned as it is.

        Returns:
            The dict whose instances have `track_ids`, int64 [N], from 1, or `NO_TRACK`.
        """
        if "instances" not in predictions:
            self._warn_once("panoptic_seg" in predictions)
            return predictions
        instances = predictions["instances"]
        found = self._supervision.Detections(
            xyxy=instances.pred_boxes.tensor.numpy().astype(np.float64).reshape(-1, 4),
            confidence=instances.scores.numpy(),
            class_id=instances.pred_classes.numpy(),
            data={"place": np.arange(len(instances))},
        )
        tracked = self._tracker.update(found)
        ids = torch.full((len(instances),), NO_TRACK, device="cpu")
        if len(tracked):
            given = torch.from_numpy(np.asarray(tracked.tracker_id, np.int64))
            ids[torch.from_numpy(tracked.data["place"])] = torch.where(
                given < 0, NO_TRACK, given + 1
            )
        # A copy: the model's own result is left as it is.
        kept = type(instances)(instances.image_size, **instances.get_fields())
        kept.track_ids = ids
        return predictions | {"instances": kept}

    def _warn_once(self, is_panoptic: bool) -> None:
        if not self._has_warned:
            what = "panoptic segments" if is_panoptic else "classes of pixels"
            logger.warning(f"--track has nothing to number: this model predicts {what} alone.")
        self._has_warned = True
