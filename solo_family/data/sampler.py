"""The order in which training sees the images: known in advance, so that a run can go on in it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from torch.utils.data import Sampler


class GroupedSampler(Sampler[int]):
    """Reorders a stream of indices so that each batch has images of one orientation.

    detectron2 groups images after they are loaded; grouped before, by the sizes in the annotations,
    the order is a function of the stream alone, and a resumed run skips what was seen without
    loading it. With grouping off, batches are simply consecutive.

    Args:
        make_stream: from a seed to an endless sampler over the dataset; one seed, one stream.
        dataset: detectron2's dicts, with `width` and `height`.
        batch_size: images of one process's batch.
        seed: of the stream.
        grouped: whether batches have one orientation.

    Attributes:
        seed: may be set before iteration begins.
        start_batch: batches of this process that are skipped, because they were trained on before.
    """

    def __init__(
        self,
        make_stream: Callable[[int], Sampler[int]],
        dataset: Sequence[dict[str, Any]],
        batch_size: int,
        *,
        seed: int,
        grouped: bool = True,
    ) -> None:
        self._make_stream = make_stream
        self._wide = [grouped and item["width"] > item["height"] for item in dataset]
        self._batch_size = batch_size
        self.seed = seed
        self.start_batch = 0

    def __iter__(self) -> Iterator[int]:
        for batch in islice(self._batches(), self.start_batch, None):
            yield from batch

    def _batches(self) -> Iterator[list[int]]:
        buckets: dict[bool, list[int]] = {False: [], True: []}
        for index in self._make_stream(self.seed):
            bucket = buckets[self._wide[index]]
            bucket.append(index)
            if len(bucket) == self._batch_size:
                yield bucket.copy()
                bucket.clear()
