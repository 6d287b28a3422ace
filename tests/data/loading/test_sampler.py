"""The order of the training images: grouped, resumable, and shared out between processes."""

import inspect
import pickle
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from detectron2.data import build
from detectron2.data.build import _train_loader_from_config
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.engine import launch
from detectron2.utils import comm

from solo_family.config import check_config
from solo_family.data.loading import streams
from solo_family.data.loading.loader import build_train_loader
from solo_family.data.loading.sampler import GroupedSampler
from solo_family.errors import ConfigError

from ...coco_folder import CocoFolder, noise, rectangle, run_cfg, small_dataset
from ...conftest import tiny_cfg
from ..segments import write_semantic

NAME = "DATALOADER.SAMPLER_TRAIN"
SUBSET, FACTOR = "DATALOADER.RANDOM_SUBSET_RATIO", "DATASETS.TRAIN_REPEAT_FACTOR"
REPEAT = ["DATALOADER.REPEAT_THRESHOLD", 0.9]
SAMPLERS = {
    "TrainingSampler": [],
    "RandomSubsetTrainingSampler": [SUBSET, 0.6],
    "RepeatFactorTrainingSampler": REPEAT,
    "WeightedTrainingSampler": [],
    "WeightedCategoryTrainingSampler": REPEAT,
}


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
    opts = [NAME, name, *SAMPLERS[name], "DATALOADER.ASPECT_RATIO_GROUPING", grouped]
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


def two_datasets(root: Path) -> tuple[str, str]:
    """Returns 4 images of a class that is common, and 3, of which one has a rare class."""
    names = []
    for place, rare in enumerate(([], [1])):
        folder = CocoFolder(root / str(place), {1: "cat", 2: "dog"})
        for index in range(4 - place):
            box = rectangle(5 + index, 8, 20, 24, category_id=2 if index in rare else 1)
            folder.add(f"{index}.png", noise(48, 64, seed=index), [box])
        names.append(folder.write())
    return names[0], names[1]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_stream_is_detectron2s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    common, rare = two_datasets(tmp_path)
    weights = [FACTOR, [(rare, 2.5), (common, 0.7)]] if name.startswith("Weighted") else []
    opts = [NAME, name, *SAMPLERS[name], *weights, "DATALOADER.ASPECT_RATIO_GROUPING", False]
    cfg = run_cfg(common, tmp_path, *opts)
    cfg.DATASETS.TRAIN = (common, rare)
    check_config(cfg)
    ours = indices(build_train_loader(cfg)[1], 100)
    # Where detectron2 does not take SEED, it draws one.
    monkeypatch.setattr(comm, "shared_random_seed", lambda: cfg.SEED)
    if weights and "TRAIN_REPEAT_FACTOR" not in inspect.getsource(build):
        pytest.skip("this version of detectron2 has no such sampler to compare with")
    theirs = _train_loader_from_config(cfg, mapper=dict)["sampler"]
    assert ours == list(islice(theirs, 200))
    if name == "RandomSubsetTrainingSampler":
        assert len(set(ours)) == int(7 * 0.6)
    if weights:
        assert ours.count(5) > 2 * ours.count(0)


@pytest.mark.parametrize(
    ("opts", "said", "advice"),
    [
        (
            [NAME, "Mine"],
            r"SAMPLER_TRAIN is 'Mine'; allowed: TrainingSampler, ",
            [NAME, "TrainingSampler"],
        ),
        (
            REPEAT,
            r"is 0\.9, but the sampler TrainingSampler does not",
            [NAME, "RepeatFactorTrainingSampler"],
        ),
        ([FACTOR, [("X", 2.0)]], r"does not read it", [NAME, "WeightedTrainingSampler"]),
        (
            [SUBSET, 0.5],
            r"Set DATALOADER\.SAMPLER_TRAIN RandomSubsetTrainingSampler, or",
            [SUBSET, 1.0],
        ),
        ([NAME, "RepeatFactorTrainingSampler"], "repeats no image", [REPEAT[0], 0.001]),
        ([NAME, "RandomSubsetTrainingSampler", SUBSET, 1.5], "at most 1", [SUBSET, 0.3]),
        ([NAME, "RandomSubsetTrainingSampler", SUBSET, 0.0], "above 0", [SUBSET, 1.0]),
        (
            [NAME, "WeightedTrainingSampler", FACTOR, [("Y", 2.0)]],
            r"has \('Y', 2\.0\); pairs of a name of DATASETS\.TRAIN \(X\)",
            [FACTOR, [("X", 2.0)]],
        ),
        (
            [NAME, "WeightedTrainingSampler", FACTOR, [("X", 0)]],
            "a number above 0",
            [FACTOR, [("X", 0.5)]],
        ),
    ],
)
def test_keys_that_would_do_nothing_or_can_not_work(
    opts: list[object], said: str, advice: list[object]
) -> None:
    cfg = tiny_cfg(opts=["DATASETS.TRAIN", ("X",), *opts])
    with pytest.raises(ConfigError, match=said):
        check_config(cfg)
    cfg.merge_from_list(advice)
    check_config(cfg)


def test_too_few_images_for_a_share_of_them(tmp_path: Path) -> None:
    opts = [NAME, "RandomSubsetTrainingSampler"]
    with pytest.raises(ConfigError, match=r"of 7 images leaves none\. Set at least 0\.14"):
        sampler_of(tmp_path, *opts, SUBSET, 0.1)
    assert set(indices(sampler_of(tmp_path, *opts, SUBSET, 0.15), 4)) < set(range(7))
    weighted = [NAME, "WeightedTrainingSampler", FACTOR]
    name = f"coco_json:{tmp_path}/data/instances.json:{tmp_path}/data/images"
    with pytest.raises(ConfigError, match="less than one image of 7"):
        sampler_of(tmp_path, *weighted, [(name, 0.01)])
    assert indices(sampler_of(tmp_path, *weighted, [(name, 0.5)]), 4)


def test_pictures_of_labels_have_no_rare_classes(tmp_path: Path) -> None:
    cfg = tiny_cfg("MaskFormer", num_classes=0, opts=[NAME, "RepeatFactorTrainingSampler", *REPEAT])
    cfg.DATASETS.TRAIN = (write_semantic(tmp_path),)
    with pytest.raises(ConfigError, match="these labels are pictures"):
        build_train_loader(cfg)
    cfg.merge_from_list([NAME, "TrainingSampler", REPEAT[0], 0.0])
    build_train_loader(cfg)


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


def test_an_older_sampler_knows_the_square_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in detectron2 0.6, where the sampler has no argument for it."""
    records = [{"annotations": [{"category_id": c} for c in ids]} for ids in ([0], [0], [0, 1])]
    opts = [NAME, "RepeatFactorTrainingSampler", *REPEAT, "DATALOADER.REPEAT_SQRT"]
    now = streams._by_rarity(tiny_cfg(opts=[*opts, True]), records)
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    if "sqrt" in inspect.signature(factors).parameters:
        assert not torch.equal(now, streams._by_rarity(tiny_cfg(opts=[*opts, False]), records))

    class Older:
        @staticmethod
        def repeat_factors_from_category_frequency(dataset_dicts, repeat_thresh):
            sampler = RepeatFactorTrainingSampler
            return sampler.repeat_factors_from_category_frequency(dataset_dicts, repeat_thresh)

    monkeypatch.setattr(streams, "RepeatFactorTrainingSampler", Older)
    assert torch.equal(now, streams._by_rarity(tiny_cfg(opts=[*opts, True]), records))
    with pytest.raises(ConfigError, match="REPEAT_SQRT is False, which this version"):
        streams._by_rarity(tiny_cfg(opts=[*opts, False]), records)
