import json
from pathlib import Path

import pytest

from solo_family.data.formats.splits import split_coco, write_splits
from solo_family.errors import DataError


def dataset(images: int) -> dict:
    return {
        "info": {"year": 2026},
        "categories": [{"id": 4, "name": "cup"}],
        # Names in another order than ids.
        "images": [{"id": n, "file_name": f"{images - n:03d}.png"} for n in range(images)],
        "annotations": [{"id": 2 * n + k, "image_id": n} for n in range(images) for k in (0, 1)],
    }


def test_every_fifth_name_validates_and_annotations_follow_their_images() -> None:
    splits = split_coco(dataset(11), val_every=5)
    names = {split: [i["file_name"] for i in part["images"]] for split, part in splits.items()}
    assert names["val"] == ["001.png", "006.png", "011.png"]
    assert names["train"] == [f"{n:03d}.png" for n in (2, 3, 4, 5, 7, 8, 9, 10)]
    for part in splits.values():
        ids = [image["id"] for image in part["images"]]
        assert sorted(a["image_id"] for a in part["annotations"]) == sorted([*ids, *ids])
        assert part["info"] == {"year": 2026}
        assert part["categories"] == [{"id": 4, "name": "cup"}]


def test_files_are_written(tmp_path: Path) -> None:
    splits = split_coco(dataset(2), val_every=2)
    paths = write_splits(splits, tmp_path / "new")
    assert paths == {split: tmp_path / "new" / f"{split}.json" for split in ("train", "val")}
    assert {split: json.loads(path.read_text()) for split, path in paths.items()} == splits
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file can't be written to"):
        write_splits(splits, tmp_path / "file")


@pytest.mark.parametrize(("images", "every"), [(1, 5), (9, 1), (9, 0), (9, -3)])
def test_both_splits_must_have_images(images: int, every: int) -> None:
    with pytest.raises(DataError, match="--val-every 2 or more"):
        split_coco(dataset(images), every)
