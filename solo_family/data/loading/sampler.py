"""The order in which training sees the images, which a resumed run continues."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch.utils.data import Sampler


@dataclass(frozen=True, slots=True)
class Draw:
    """One element of the infinite stream of training images.

    Attributes:
        index: of the image in the dataset.
        place: of the draw in the stream, before grouping and sharding; it is unique.
        seed: of the stream. Together with `place` it seeds the image's augmentations, so that these
            are the same in whichever process loads the image.
    """

    index: int
    place: int
    seed: int


class GroupedSampler(Sampler[list[Draw]]):
    """Cut a stream of images into batches of one orientation, and yield a process's share of each.

    detectron2 groups images by orientation after loading them, in each process separately. Here
    they are grouped before loading, by the sizes in the annotations, so that the batches depend on
    the stream alone: a resumed run skips the batches that were trained on without loading them, and
    several processes see the same batches as one.

    Args:
        make_stream: maps a seed to an infinite stream of the dataset's indices, the same in all
            processes.
        dataset: detectron2's dicts, with `width` and `height` if `grouped`.
        batch_size: images per batch, of all processes together; a multiple of `world_size`.
        seed: of the stream; not negative.
        rank: of this process.
        world_size: number of processes.
        grouped: whether all images of a batch have the same orientation; otherwise batches are
            consecutive parts of the stream.

    Attributes:
        seed: of the stream; see `reseed`.
        start_batch: number of batches to skip, because they were trained on before.
    """

    def __init__(
        self,
        make_stream: Callable[[int], Iterable[int]],
        dataset: Sequence[dict[str, Any]],
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        grouped: bool = True,
    ) -> None:
        self._make_stream = make_stream
        self._wide = [grouped and item["width"] > item["height"] for item in dataset]
        self._batch_size = batch_size
        share = batch_size // world_size
        self._share = slice(rank * share, (rank + 1) * share)
        self.start_batch = 0
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Switch to the stream of another seed; call it before the iteration begins."""
        self.seed = seed

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in islice(self._batches(), self.start_batch, None):
            yield batch[self._share]

    def _batches(self) -> Iterator[list[Draw]]:
        buckets: dict[bool, list[Draw]] = {False: [], True: []}
        for place, index in enumerate(self._make_stream(self.seed)):
            bucket = buckets[self._wide[index]]
            bucket.append(Draw(index, place, self.seed))
            if len(bucket) == self._batch_size:
                yield bucket.copy()
                bucket.clear()
