"""The order of the training images: grouped, resumable, and shared out between processes."""

import pickle
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from detectron2.engine import launch
from detectron2.utils import comm

from solo_family.data.loading.loader import build_train_loader
from solo_family.data.loading.sampler import GroupedSampler

from ...coco_folder import CocoFolder, noise, rectangle, run_cfg, small_dataset

SAMPLERS = ["TrainingSampler", "RepeatFactorTrainingSampler"]


def sampler_of(root: Path, *opts: object) -> GroupedSampler:
    root.mkdir(exist_ok=True)
    if not (root / "data").exists():
        small_dataset(root / "data", images=7)
    name = f"coco_json:{root}/data/instances.json:{root}/data/images"
    return build_train_loader(run_cfg(name, root, *opts))[1]


def indices(sampler: GroupedSampler, batches: int) -> list[int]:
    return [draw.index for batch in islice(sampler, batches) for draw in batch]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("grouped", [True, False])
def test_a_later_start_is_the_same_order(tmp_path: Path, name: str, grouped: bool) -> None:
    opts = ["DATALOADER.SAMPLER_TRAIN", name, "DATALOADER.ASPECT_RATIO_GROUPING", grouped]
    whole = list(islice(sampler_of(tmp_path, *opts), 20))
    assert [len(batch) for batch in whole] == [2] * 20
    later = sampler_of(tmp_path, *opts)
    later.start_batch = 7
    assert list(islice(later, 13)) == whole[7:]
    # A copy in another process gives the same.
    assert list(islice(pickle.loads(pickle.dumps(later)), 13)) == whole[7:]
    other = sampler_of(tmp_path, *opts, "SEED", 4)
    assert list(islice(other, 20)) != whole
    other.reseed(3)
    assert list(islice(other, 20)) == whole


def test_groups_are_of_one_orientation_and_leave_nothing_out(tmp_path: Path) -> None:
    order = indices(sampler_of(tmp_path), 350)
    for one, other in zip(order[::2], order[1::2]):
        assert one % 2 == other % 2  # the dataset has wide and tall pictures in turn
    for index in range(7):
        assert order.count(index) == pytest.approx(100, abs=3)


@pytest.mark.parametrize("grouped", [True, False])
def test_several_processes_see_the_batches_of_one(grouped: bool) -> None:
    dataset = [{"width": 64, "height": 48 + 32 * (index % 3 == 0)} for index in range(10)]

    def stream(seed: int) -> Iterator[int]:
        rng = random.Random(seed)
        while True:
            yield rng.randrange(10)

    def sampler(rank: int, world_size: int) -> GroupedSampler:
        places = {"rank": rank, "world_size": world_size}
        return GroupedSampler(stream, dataset, 4, seed=5, grouped=grouped, **places)

    alone = list(islice(sampler(0, 1), 30))
    shares = zip(*(islice(sampler(rank, 2), 30) for rank in (0, 1)))
    assert [one + other for one, other in shares] == alone
    # A draw's place is that in the stream.
    numbers = list(islice(stream(5), 200))
    for batch in alone:
        assert [draw.index for draw in batch] == [numbers[draw.place] for draw in batch]
        assert not grouped or len({draw.index % 3 == 0 for draw in batch}) == 1
    places = [draw.place for batch in alone for draw in batch]
    assert len(set(places)) == len(places)


def first_epoch(folder: str) -> None:
    """Of one process: writes which images it is given, by two workers, in two iterations."""
    root = Path(folder)
    cfg = run_cfg(
        f"coco_json:{root}/data/instances.json:{root}/data/images",
        root,
        *("SOLVER.IMS_PER_BATCH", 4, "DATALOADER.NUM_WORKERS", 2),
    )
    batches = islice(build_train_loader(cfg)[0], 2)
    names = [Path(item["file_name"]).name for batch in batches for item in batch]
    (root / f"{comm.get_rank()}.txt").write_text(" ".join(names))


@pytest.mark.slow
def test_two_processes_with_workers_share_an_epoch_out(tmp_path: Path) -> None:
    data = CocoFolder(tmp_path / "data", {1: "cat"})
    for index in range(8):
        data.add(f"{index}.png", noise(48, 64), [rectangle(5, 5, 20, 20)])
    data.write()
    launch(first_epoch, 2, dist_url="auto", args=(str(tmp_path),))
    seen = [(tmp_path / f"{rank}.txt").read_text().split() for rank in (0, 1)]
    assert [len(names) for names in seen] == [4, 4]
    assert sorted(seen[0] + seen[1]) == [f"{index}.png" for index in range(8)]
