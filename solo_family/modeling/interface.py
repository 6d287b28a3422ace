"""What a method adds to what every method does; see `MaskSegmentor`.

B images, H W the size of the network's input.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any

from detectron2.structures import Instances
from torch import Tensor


class MethodInterface(ABC):
    """The parts of a method, in training, in inference, and where it is exported."""

    # What of `export_forward`'s arguments the method uses.
    export_inputs: tuple[str, ...] = ("images", "score_threshold")

    def prepare_targets(self, gt_instances: list[Instances], padded_size: tuple[int, int]) -> Any:
        """Make of the ground truth all that does not depend on the predictions.

        Args:
            gt_instances: per image, with gt_boxes, gt_classes and gt_masks (BitMasks) in pixels of
                the network's input; may be empty.
            padded_size: (height, width) of the batch.

        Returns:
            What `losses` gets as `targets`: here the ground truth as it is.
        """
        return gt_instances

    @abstractmethod
    def losses(
        self,
        features: dict[str, Tensor],
        targets: Any,
        padded_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """Return the weighted losses of a batch.

        Args:
            features: the backbone's.
            targets: of `prepare_targets`.
            padded_size: (height, width) of the batch.
        """

    @abstractmethod
    def fixed_part(self, features: dict[str, Tensor], padded_size: tuple[int, int]) -> Any:
        """Do all of inference whose sizes follow from the input's: what can be a CUDA graph.

        On a GPU the host waits for nothing in it.

        Args:
            features: the backbone's.
            padded_size: (height, width) of the batch.

        Returns:
            What `results` takes: tensors in tuples, lists, dicts and dataclasses.
        """

    @property
    def fixed_settings(self) -> Hashable:
        """What `fixed_part` depends on beside the weights, as far as users change it."""
        return ()

    @abstractmethod
    def results(
        self,
        fixed: Any,
        padded_size: tuple[int, int],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        """Return one result per image, in detectron2's form.

        Args:
            fixed: of `fixed_part`.
            padded_size: (height, width) of the batch.
            image_sizes: (height, width) of each image in it, without padding.
            output_sizes: (height, width) that each image's result is asked for.
        """

    @abstractmethod
    def predict_fixed(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        score_threshold: float | Tensor | None,
        image_sizes: Tensor | None,
    ) -> dict[str, Tensor]:
        """Return predictions by name, of sizes that follow from that of the input alone.

        Args:
            features: the backbone's.
            padded_size: (height, width) of the batch.
            score_threshold: candidates score more; None for the configured one.
            image_sizes: of the images without padding, int64 [B, 2]; None where there is none.
        """

    @abstractmethod
    def export_settings(self) -> dict[str, Any]:
        """Return what turns `export_forward`'s output into results, of JSON's types.

        That is `task`, which says how, and `thresholds`, with `score` among them where
        `export_forward` takes it. `candidates` is N where more of them are not looked at.
        """
