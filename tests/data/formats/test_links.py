"""Folders of datasets with links and with hidden files."""

from pathlib import Path

from detectron2.data import DatasetCatalog
from PIL import Image

from solo_family.data.formats.register import check_datasets

from ...coco_folder import noise


def test_folders_that_are_links_are_read_once_and_hidden_files_are_not(tmp_path: Path) -> None:
    """As `demo` takes a folder's pictures; the images of a cluster are often on another disk."""
    elsewhere, root = tmp_path / "disk", tmp_path / "data"
    for folder in ("images", "labels"):
        (elsewhere / folder).mkdir(parents=True)
        (root / folder / "own").mkdir(parents=True)
        (root / folder / "far").symlink_to(elsewhere / folder)
        (root / folder / "far_again").symlink_to(elsewhere / folder)
        (elsewhere / folder / "again").symlink_to(elsewhere / folder)
    for place in (root / "images" / "own", elsewhere / "images"):
        noise(48, 64, seed=len(place.parts)).save(place / "1.png")
        (place / "._1.png").write_bytes(b"\0\5\x16\7")
    for place in (root / "labels" / "own", elsewhere / "labels"):
        Image.new("L", (64, 48), 1).save(place / "1.png")
        (place / "1.txt").write_text("0 0.1 0.1 0.6 0.1 0.6 0.8\n")
    (root / "data.yaml").write_text("names: [cat]\ntrain: images\n")
    both = [str(root / "images" / name / "1.png") for name in ("far", "own")]
    pictures = f"{root}/images:{root}/labels"
    for name in (f"yolo:{root}", f"masks:{pictures}", f"semantic:{pictures}:sky,cat"):
        check_datasets([name])
        assert [record["file_name"] for record in DatasetCatalog.get(name)] == both
