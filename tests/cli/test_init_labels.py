"""The verb `init` for labels that are pictures: of classes, and of panoptic segments."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from solo_family.data.formats.register import register_in_place
from solo_family.data.formats.semantic_dataset import register_semantic
from solo_family.evaluation.build import predicted_tasks

from ..checkpoint.lists import random_weights
from ..data.segments import write_panoptic, write_semantic
from .test_init import FAST, config_of, init, published, train_one_step, write_run


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Return the name of six street scenes of two drives, with labels of 16 bits."""
    for folder in ("images/day", "labels/day"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(6):
        labels = np.zeros((48, 80), np.uint16)
        labels[20:, 10 * number :] = 1
        labels[:6, :9] = 65535
        labels[40:44, :4] = 2
        name = f"day/drive{number % 2}_{number}"
        shade = np.stack([labels * 40, labels * 0 + number, labels * 20], axis=2) % 256
        Image.fromarray(shade.astype(np.uint8)).save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{name}.png")
    return f"semantic:{tmp_path / 'images'}:{tmp_path / 'labels'}:sky,road,sign:65535"


def panoptic(root: Path) -> str:
    """Return the name of a panoptic dataset of three pictures that differ."""
    name, _, _ = write_panoptic(root)
    for number in range(3):
        path = root / "images" / f"{number}.png"
        pixels = np.asarray(Image.open(path)).copy()
        pixels[0, 0] = number
        Image.fromarray(pixels).save(path)
    return name


def records_of(name: str) -> list[dict]:
    register_in_place([name])
    return DatasetCatalog.get(name)


def test_it_writes_a_config_of_mask_former_and_a_split_of_links(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path, "--train", data, *FAST) == 0
    cfg = config_of(tmp_path)
    assert cfg.MODEL.META_ARCHITECTURE == "MaskFormer"
    assert predicted_tasks(cfg) == ["semantic"]
    assert cfg.TEST.BEST_METRIC == "sem_seg/mIoU"
    sides = [records_of(names[0]) for names in (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)]
    assert [len(side) for side in sides] == [3, 3]  # a drive each
    whole = {r["file_name"]: r["sem_seg_file_name"] for r in records_of(data)}
    found = {}
    for record in (record for side in sides for record in side):
        assert Path(record["file_name"]).is_symlink()
        image, label = (Path(record[key]) for key in ("file_name", "sem_seg_file_name"))
        found[str(image.resolve())] = str(label.resolve())
    assert found == whole
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        metadata = MetadataCatalog.get(name)
        assert (metadata.stuff_classes, metadata.ignore_label) == (["sky", "road", "sign"], 65535)
    printed = capsys.readouterr().out
    assert "3 of 3 classes occur, the rarest, sign, in 0." in printed
    assert "no --val: 3 of 6 images are split off" in printed
    lines = (tmp_path / "new" / "my.yaml").read_text().splitlines()
    assert all("  # " in line for line in lines[2:] if not line.endswith(":"))
    assert lines[1] == "_BASE_: 'solo_family://benchmarks/camvid_mask_former.yaml'"


def test_links_can_be_moved_with_what_they_lead_to(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert init(tmp_path, "--train", data, *FAST) == 0
    (link,) = (tmp_path / "new").rglob("images/drive0_0.jpg")
    assert not link.readlink().is_absolute()
    assert link.resolve() == tmp_path / "images" / "day" / "drive0_0.jpg"


def test_links_in_a_folder_that_is_a_link_lead_to_the_pictures(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs are often on another disk."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk" / "of" / "outputs").mkdir(parents=True)
    (tmp_path / "new").symlink_to(tmp_path / "disk" / "of" / "outputs")
    assert init(tmp_path, "--train", data, *FAST) == 0
    (link,) = (tmp_path / "disk").rglob("images/drive0_0.jpg")
    assert link.resolve() == tmp_path / "images" / "day" / "drive0_0.jpg"


def test_the_same_picture_under_two_names_stays_on_one_side(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(20):
        for folder, suffix in (("images", "jpg"), ("labels", "png")):
            content = (tmp_path / folder / "day" / f"drive0_0.{suffix}").read_bytes()
            (tmp_path / folder / f"{chr(97 + number)}.{suffix}").write_bytes(content)
    assert init(tmp_path, "--train", data, *FAST) == 0
    assert "both in training and in validation" not in capsys.readouterr().out


def test_one_image_is_not_split(tmp_path: Path) -> None:
    name = write_semantic(tmp_path / "data")
    for number in (1, 2):
        for folder in ("images", "labels"):
            (tmp_path / "data" / folder / f"{number}.png").unlink()
    assert init(tmp_path, "--train", name, *FAST) == 0
    cfg = config_of(tmp_path)
    assert [*cfg.DATASETS.TRAIN] == [name]
    assert not cfg.DATASETS.TEST
    assert (cfg.TEST.EVAL_PERIOD, cfg.TEST.BEST_METRIC) == (0, "")


@pytest.mark.parametrize("method", ["maskformer", "sparseinst"])
def test_panoptic_segments_have_their_methods_and_splits(method: str, tmp_path: Path) -> None:
    name = panoptic(tmp_path / "data")
    assert init(tmp_path, "--train", name, "--method", method, *FAST) == 0
    cfg = config_of(tmp_path)
    assert "panoptic" in predicted_tasks(cfg)
    assert cfg.TEST.BEST_METRIC == "panoptic_seg/PQ"
    sides = [records_of(names[0]) for names in (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)]
    assert [len(side) for side in sides] == [2, 1]
    assert sides[0] + sides[1] == records_of(name)
    content = json.loads((tmp_path / "new" / "my_data" / "val.json").read_text())
    assert len(content["images"]) == 1


def test_labels_get_the_names_of_their_images(tmp_path: Path) -> None:
    write_semantic(tmp_path / "data")
    images, labels = tmp_path / "data" / "images", tmp_path / "data" / "labels"
    for path in list(labels.iterdir()):
        path.rename(labels / f"{path.stem}_truth.png")
    register_semantic(str(tmp_path), str(images), str(labels), "abc", label_suffix="_truth")
    assert init(tmp_path, "--train", str(tmp_path), *FAST) == 0
    cfg = config_of(tmp_path)
    records = [*records_of(cfg.DATASETS.TRAIN[0]), *records_of(cfg.DATASETS.TEST[0])]
    for record in records:
        number = Path(record["file_name"]).stem
        assert Path(record["sem_seg_file_name"]).resolve() == labels / f"{number}_truth.png"
    assert len(records) == 3


def test_where_links_cannot_be_made_a_validation_set_is_asked_for(
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    assert init(tmp_path, "--train", data, *FAST) == 2
    error = capsys.readouterr().err
    assert "links to its files can't be made in" in error
    assert "(Operation not permitted). Name the dataset for validation with --val." in error
    assert not list((tmp_path / "new").iterdir())


def one_wrong_label(root: Path) -> None:
    Image.fromarray(np.full((48, 80), 9, np.uint8)).save(root / "labels" / "1.png")


def one_of_other_size(root: Path) -> None:
    Image.fromarray(np.zeros((7, 9), np.uint8)).save(root / "labels" / "1.png")


def one_with_five_channels(root: Path) -> None:
    np.save(root / "images" / "1.npy", np.zeros((48, 80, 5), np.uint8))
    (root / "images" / "1.png").unlink()


def nothing_labelled(root: Path) -> None:
    for path in (root / "labels").iterdir():
        Image.fromarray(np.full((48, 80), 255, np.uint8)).save(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (one_wrong_label, "labels/1.png has label 9, but there are 3 classes"),
        (one_of_other_size, "labels/1.png is 9x7 pixels, but its image"),
        (one_with_five_channels, "images of another number of channels than INPUT.FORMAT"),
        (nothing_labelled, "no pixel of its labels has a class: there is nothing to learn."),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused_in_one_line(
    spoil: Callable[[Path], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write_semantic(tmp_path / "data")
    spoil(tmp_path / "data")
    assert init(tmp_path, "--train", name, *FAST) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not list((tmp_path / "new").rglob("*"))


def test_a_method_for_other_labels_is_refused(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", "SOLO", ["road"])
    for words, what in (
        (("--method", "solov2"), "--method is solov2"),
        (("--method", "sparse_inst"), "--method is sparseinst"),
        (("--from", str(tmp_path / "run")), f"--from {tmp_path / 'run'} is a model of solo"),
    ):
        assert init(tmp_path, "--train", data, *words, *FAST) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith(f"error: {what}, but the labels of --train are for semantic")
        assert error.endswith("segmentation; allowed: maskformer.")


def test_validation_must_be_of_the_same_kind_and_classes(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = write_semantic(tmp_path / "others")
    for val, message in (
        (
            panoptic(tmp_path / "panoptic"),
            "has labels for panoptic segmentation, and --train for semantic segmentation.",
        ),
        (others, "The model has the classes sky, road, sign (3), but dataset"),
        (data.replace("images:", "images/day/../:"), "6 images that are both in training and in"),
    ):
        assert init(tmp_path, "--train", data, "--val", val, *FAST) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_a_run_of_instances_goes_on_with_labels(
    task: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = ["cat", "road", "fish"]
    old = write_run(tmp_path / "run", "MaskFormer", classes)
    if task == "panoptic":
        data = panoptic(tmp_path / "panoptic")
    assert init(tmp_path, "--train", data, "--from", str(tmp_path / "run"), *FAST) == 0
    cfg = config_of(tmp_path)
    assert predicted_tasks(cfg) == [task]
    assert (task == "semantic") == cfg.INPUT.CROP.ENABLED
    new = torch.load(cfg.MODEL.WEIGHTS, weights_only=True)["model"]
    kept, place = {"semantic": ("road", 1), "panoptic": ("cat", 0)}[task]
    (rows,) = [name for name in new if name.endswith("class_embed.bias")]
    assert new[rows][place] == old[rows][classes.index(kept)]
    assert new[rows][-1] == old[rows][-1]  # no object
    assert f"classes that keep their weights: {kept}" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("source", ["backbone", "run"])
@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_the_config_trains(task: str, source: str, tmp_path: Path) -> None:
    write = write_semantic if task == "semantic" else panoptic
    words = ["--train", write(tmp_path / "data")]
    if source == "run":
        write_run(tmp_path / "run", "MaskFormer", ["a", "other"])
        words += ["--from", str(tmp_path / "run")]
    assert init(tmp_path, *words, *FAST) == 0
    results = train_one_step(tmp_path / "new" / "my.yaml", tmp_path / "output")
    kind, metric = config_of(tmp_path).TEST.BEST_METRIC.split("/")
    assert metric in results[kind]
    assert (tmp_path / "output" / "model_final.pth").is_file()


@pytest.mark.slow
def test_panoptic_segments_train_with_sparse_inst(tmp_path: Path) -> None:
    name = panoptic(tmp_path / "data")
    assert init(tmp_path, "--train", name, "--method", "sparseinst", *FAST) == 0
    results = train_one_step(tmp_path / "new" / "my.yaml", tmp_path / "output")
    assert "PQ" in results["panoptic_seg"]


@pytest.mark.slow
def test_without_a_given_time_ten_iterations_are_timed(data: str, tmp_path: Path) -> None:
    assert init(tmp_path, "--train", data, "--minutes", "1") == 0
    reason = (tmp_path / "new" / "my.yaml").read_text().split("1 minutes of ")[1].split(" s ")[0]
    assert float(reason) > 0


@pytest.mark.slow
def test_published_weights_of_other_classes_are_taken_over(
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, sky = "MaskFormer/ade20k-150/maskformer_R50_bs16_160k.yaml", 2  # among ADE20K's classes
    weights = random_weights("mask_former_r50_v2")
    outputs = "sem_seg_head.predictor.class_embed"
    weights[f"{outputs}.weight"] = torch.randn(151, weights[f"{outputs}.weight"].shape[1])
    weights[f"{outputs}.bias"] = torch.randn(151)
    with published(name, weights, tmp_path, monkeypatch):
        assert init(tmp_path, "--train", data, "--from", name, *FAST) == 0
    cfg = config_of(tmp_path)
    assert predicted_tasks(cfg) == ["semantic"]
    assert cfg.INPUT.SIZE_DIVISIBILITY == -1  # 512 there, which is more than these crops
    new = torch.load(cfg.MODEL.WEIGHTS, weights_only=True)["model"]
    (rows,) = [key for key in new if key.endswith("class_embed.bias")]
    # The first of the new classes, and "no object" after the three.
    assert torch.equal(new[rows][[0, 3]], weights[f"{outputs}.bias"][[sky, 150]])
    assert "classes that keep their weights: sky\n" in capsys.readouterr().out
    assert train_one_step(tmp_path / "new" / "my.yaml", tmp_path / "output")
