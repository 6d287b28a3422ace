"""The order in which training sees the images: known in advance, so that a run can go on in it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch.utils.data import Sampler


@dataclass(frozen=True, slots=True)
class Draw:
    """One image of the endless stream.

    Attributes:
        index: in the dataset.
        place: in the stream, before grouping and sharding; no two draws have the same.
        seed: of the stream. With `place` it says which random numbers the image's augmentations
            draw, whichever process loads it.
    """

    index: int
    place: int
    seed: int


class GroupedSampler(Sampler[list[Draw]]):
    """Cuts a stream of indices into batches of images of one orientation, and gives a process its
    share of each.

    detectron2 groups images after they are loaded, in every process by itself; grouped before, by
    the sizes in the annotations, batches are a function of the stream alone: a resumed run skips
    what was seen without loading it, and several processes see the batches of one. With grouping
    off, batches are simply consecutive.

    Args:
        make_stream: from a seed to an endless stream of the dataset's indices; one seed, one
            stream, the same in all processes.
        dataset: detectron2's dicts, with `width` and `height`.
        batch_size: images of all processes' batch.
        seed: of the stream, at least 0.
        rank, world_size: of this process, and how many there are. They divide a batch.
        grouped: whether batches have one orientation.

    Attributes:
        seed: of the stream; see `reseed`.
        start_batch: batches that are skipped, because they were trained on before.
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
        """Take another stream, before iteration begins."""
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
