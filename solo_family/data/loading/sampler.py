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

    It is iterated in the loader's worker processes, which may not know the rank of their parent:
    the stream, which does, is made before.

    Args:
        make_stream: from a seed to an endless sampler over the dataset; one seed, one stream. It
            can be pickled.
        dataset: detectron2's dicts, with `width` and `height`.
        batch_size: images of one process's batch.
        seed: of the stream.
        grouped: whether batches have one orientation.

    Attributes:
        seed: of the stream; see `reseed`.
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
        self.start_batch = 0
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Takes another stream, before iteration begins."""
        self.seed = seed
        self._stream = self._make_stream(seed)

    def __iter__(self) -> Iterator[int]:
        for batch in islice(self._batches(), self.start_batch, None):
            yield from batch

    def _batches(self) -> Iterator[list[int]]:
        buckets: dict[bool, list[int]] = {False: [], True: []}
        for index in self._stream:
            bucket = buckets[self._wide[index]]
            bucket.append(index)
            if len(bucket) == self._batch_size:
                yield bucket.copy()
                bucket.clear()
