"""Define the parts that a method adds to `MaskSegmentor`.

B images.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any

from detectron2.structures import Instances
from torch import Tensor, nn

from .normalizer import LossCount


class MethodInterface(ABC):
    """Declare the parts of a method: for training, for inference and for export."""

    # The arguments of `export_forward` that the method uses.
    export_inputs: tuple[str, ...] = ("images", "score_threshold")
    # The formats whose graphs of this model take only one size of images.
    one_size_formats: tuple[str, ...] = ()
    # Whether a subclass outside the package changes inference, and may read every result.
    is_extended = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        package = __name__.partition(".")[0]
        own = next(c for c in cls.__mro__ if c.__module__.partition(".")[0] == package)
        names = ("forward", "inference", "predict", "results")
        cls.is_extended = any(getattr(cls, name) is not getattr(own, name) for name in names)

    def prepare_targets(self, gt_instances: list[Instances], padded_size: tuple[int, int]) -> Any:
        """Compute the part of the targets that does not depend on predictions.

        Args:
            gt_instances: the ground truth of each image, with gt_boxes, gt_classes and gt_masks
                (BitMasks) in pixels of the network's input. An image may have no objects.
            padded_size: (height, width) of the batch.

        Returns:
            The `targets` that `losses` receives; here, the ground truth itself.
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
            features: the backbone's features by name.
            targets: the result of `prepare_targets`.
            padded_size: (height, width) of the batch.

        Returns:
            One weighted scalar per loss, by name. The names are documented on the method's page.
        """

    @property
    def counts_losses(self) -> bool:
        """Whether `loss_counts` knows all losses, so that a batch can be computed in parts."""
        return type(self).loss_counts is not MethodInterface.loss_counts

    def loss_counts(
        self, gt_instances: list[Instances], padded_size: tuple[int, int]
    ) -> dict[str, LossCount]:
        """Return what each loss of a batch is divided by, which follows from the truth alone.

        Args:
            gt_instances: see `prepare_targets`.
            padded_size: (height, width) of the batch.

        Returns:
            A count for each name of `losses`, without the numbers of layers at their ends.
        """
        raise NotImplementedError

    @property
    def recomputed_parts(self) -> Sequence[nn.Module]:
        """The parts, beside the backbone, that `SOLVER.ACTIVATION_CHECKPOINTING` computes again.

        Each is called by `losses`, or has its `forward_features` called, writes to none of its
        inputs, and returns the same if it is called again.
        """
        return ()

    @property
    def network_parts(self) -> Sequence[nn.Module]:
        """The parts, beside the backbone, that `SOLVER.COMPILE` compiles: no losses, no matching.

        `losses` calls each once, with tensors in tuples, lists and dicts.
        """
        return ()

    @abstractmethod
    def fixed_part(self, features: dict[str, Tensor], padded_size: tuple[int, int]) -> Any:
        """Run the part of inference that can be recorded as a CUDA graph.

        The sizes of its tensors must follow from the size of the input, and no step may make the
        host wait for a GPU.

        Args:
            features: the backbone's features by name.
            padded_size: (height, width) of the batch.

        Returns:
            The `fixed` that `results` receives: tensors in tuples, lists, dicts and dataclasses.
        """

    @property
    def fixed_settings(self) -> Hashable:
        """The settings that `fixed_part` depends on and that users may change after building."""
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
            fixed: the result of `fixed_part`.
            padded_size: (height, width) of the batch.
            image_sizes: (height, width) of each image in the batch, without padding.
            output_sizes: (height, width) of each image's result.
        """

    @abstractmethod
    def predict_fixed(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        score_threshold: float | Tensor | None,
        image_sizes: Tensor | None,
    ) -> dict[str, Tensor]:
        """Return the predictions for export; their sizes follow from the size of the input alone.

        Args:
            features: the backbone's features by name.
            padded_size: (height, width) of the batch.
            score_threshold: the score that candidates must exceed; None for the configured one.
            image_sizes: height and width of each image without padding, int64 [B, 2]; None if no
                image is padded.

        Returns:
            Tensors by name.
        """

    @abstractmethod
    def export_settings(self) -> dict[str, Any]:
        """Return the settings with which a runtime turns `export_forward`'s output into results.

        Returns:
            JSON values by name. `task` names the kind of results. `thresholds` are the thresholds,
            among them `score` if `export_forward` takes one. `candidates` is the number of
            candidates that the graph considers, for methods that limit it.
        """
