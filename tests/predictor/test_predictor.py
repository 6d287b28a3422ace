"""Pictures of every kind in, results out: the front door in Python."""

import pickle
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata
from PIL import Image
from pycocotools import mask as mask_util

from solo_family import Predictor, model_zoo
from solo_family.errors import ConfigError, DataError
from solo_family.export.write import Options, export_model
from solo_family.methods.mask_former.late_scores import LateScores
from solo_family.predictor.load import load_predictor

from ..coco_folder import write_cfg
from ..conftest import eager_to_find, tiny_cfg, tiny_model

NAMES = ["apple", "pear", "plum"]
SMALL = ["INPUT.MIN_SIZE_TEST", 64]
FIELDS = ("masks", "boxes", "scores", "labels")


def tiny_run(folder: Path, method: str = "SOLOv2", *opts: Any) -> CfgNode:
    """Write what a training leaves: its config and its last weights."""
    model = eager_to_find(tiny_model(method, opts=list(opts)), True)
    names = ["MODEL.CLASS_NAMES", NAMES, "OUTPUT_DIR", str(folder)]
    cfg = tiny_cfg(method, opts=[*opts, *names, *SMALL])
    folder.mkdir(exist_ok=True)
    write_cfg(folder / "config.yaml", cfg)
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    return cfg


def trained_cfg(run: Path) -> CfgNode:
    return tiny_cfg(opts=["MODEL.WEIGHTS", str(run / "model_final.pth"), *SMALL])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    tiny_run(folder)
    return folder


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Return a picture whose colours are not the same both ways, RGB."""
    rgb = np.random.default_rng(0).integers(0, 120, (50, 70, 3), dtype=np.uint8)
    rgb[10:30, 20:50, 0] += 120
    return rgb


def fields(result: Any) -> list[np.ndarray]:
    return [getattr(result, name) for name in FIELDS]


@pytest.mark.parametrize(
    ("kind", "channels"),
    [
        ("path", None),
        ("string", None),
        ("pillow", None),
        ("rgb array", "RGB"),
        ("bgr array", "BGR"),
        ("rgba array", "RGB"),
        ("tensor", "RGB"),
    ],
)
def test_a_picture_is_the_same_however_it_is_given(
    run: Path, photo: np.ndarray, tmp_path: Path, kind: str, channels: str | None
) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    opaque = np.full((*photo.shape[:2], 1), 255, np.uint8)
    given = {
        "path": path,
        "string": str(path),
        "pillow": Image.fromarray(photo),
        "rgb array": photo,
        "bgr array": photo[:, :, ::-1],
        "rgba array": np.concatenate([photo, opaque], axis=2),
        "tensor": torch.from_numpy(photo).permute(2, 0, 1),
    }[kind]
    cfg = trained_cfg(run)
    expected = load_predictor(cfg)(photo[:, :, ::-1].copy())["instances"]
    result = Predictor(run, confidence_threshold=0)(given, channels=channels)
    assert len(result) == len(expected) > 0
    assert np.array_equal(result.masks, expected.pred_masks.numpy())
    assert np.array_equal(result.scores, expected.scores.numpy())
    assert result.masks.shape == (len(result), 50, 70)
    assert result.boxes.shape == (len(result), 4)
    assert result.names == [NAMES[label] for label in result.labels]


@pytest.mark.parametrize(
    ("make", "channels", "message"),
    [
        (lambda p: p, None, "channels='RGB'.*channels='BGR'"),
        (lambda p: p, "GBR", "channels is 'GBR'; allowed: 'RGB', 'BGR'"),
        (lambda p: p / 255, "RGB", r"float64, 0 to .*\(x \* \(255 / 1\)\)\.round\(\), .* uint8"),
        (lambda p: p > 99, "RGB", r"bool, 0 to 1\. Scale it, for instance \(x \* \(255 / 1\)\)"),
        (lambda p: p * np.uint16(257), "RGB", r"uint16, .*\(x \* \(255 / 65535\)\)\.round"),
        (lambda p: p * np.uint16(16), "RGB", r"uint16, .*\(x \* \(255 / 4095\)\)\.round"),
        (lambda p: p.astype(np.int64), "RGB", r"int64, 0 to [0-9]*\. Give it as uint8\."),
        (lambda p: p.astype(np.float32), "RGB", r"float32, .*\. Round it, and give it as uint8"),
        (lambda p: p - 100.0, "RGB", r"float64, -100 .*\(\(x - -100\) \* \(255 / "),
        (lambda p: p[:0] / 255, "RGB", r"this one is float64\."),
        (lambda p: p.astype(object), "RGB", r"this one is object\."),
        (lambda p: torch.from_numpy(p).permute(2, 0, 1).bfloat16(), "RGB", "float32, .*Round it"),
        (
            lambda p: torch.from_numpy(p / 255).permute(2, 0, 1).requires_grad_(),
            "RGB",
            "float64, .*Scale it",
        ),
        (lambda p: p[None], "RGB", r"this one is \[1, 50, 70, 3\]"),
        (lambda p: torch.from_numpy(p), "RGB", r"\[50, 70, 3\]. Permute it"),
        (lambda p: "no_such_photo.jpg", None, "no_such_photo.jpg can't be read"),
        (lambda p: 3, None, "this one is a int"),
        (lambda p: (one for one in [p]), "RGB", "a generator. Give several pictures as a list"),
    ],
)
def test_what_is_no_picture_is_refused(
    run: Path,
    photo: np.ndarray,
    make: Callable[[np.ndarray], Any],
    channels: str | None,
    message: str,
) -> None:
    with pytest.raises(DataError, match=message):
        Predictor(run)(make(photo), channels=channels)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_a_deep_pillow_image_is_what_its_file_is(
    run: Path, photo: np.ndarray, tmp_path: Path, mode: str
) -> None:
    """Pillow's own conversion makes all but the darkest pixels white, and fractions black."""
    values = photo[:, :, 0] / 255 if mode == "F" else photo[:, :, 0] * np.uint16(257)
    deep = Image.fromarray(values.astype({"I;16": "u2", "I": "i4", "F": "f4"}[mode]))
    assert deep.mode == mode
    deep.save(tmp_path / "deep.tif")
    predict = Predictor(run, confidence_threshold=0)
    result = predict(deep)
    assert np.array_equal(result.image, np.repeat(photo[:, :, :1], 3, axis=2))
    assert np.array_equal(result.masks, predict(tmp_path / "deep.tif").masks)
    with pytest.raises(DataError, match=r"A Pillow image has values from 0 to .* INPUT.RANGE"):
        predict(Image.fromarray(photo[:, :, 0] * np.uint16(2)))


def test_a_list_gives_what_one_after_the_other_gives(run: Path, photo: np.ndarray) -> None:
    predict = Predictor(run, confidence_threshold=0)
    pictures = [photo, photo[:40], np.ascontiguousarray(photo[:, ::-1])]
    together = predict(pictures, channels="RGB", batch_size=2)
    assert len(together) == 3
    for result, picture in zip(together, pictures):
        alone = predict(picture, channels="RGB")
        assert len(alone) == len(result) > 0
        assert np.allclose(alone.scores, result.scores, atol=1e-4)
        assert (alone.masks != result.masks).mean() < 1e-3
    assert predict([], channels="RGB") == []


def test_a_stream_makes_one_result_after_another(run: Path, photo: np.ndarray) -> None:
    predict = Predictor(run, confidence_threshold=0)
    taken: list[int] = []

    def pictures() -> Iterator[np.ndarray]:
        for index in range(7):
            taken.append(index)
            yield photo[: 40 + index]

    results = predict.stream(pictures(), channels="RGB", batch_size=2)
    assert taken == []
    first = next(results)
    assert taken == [0, 1]
    gone = weakref.ref(first)
    del first
    expected = predict(list(pictures()), channels="RGB", batch_size=2)
    others = [next(results), next(results)]
    assert gone() is None
    others += results
    for result, one in zip(others, expected[1:], strict=True):
        assert np.array_equal(result.masks, one.masks)
    listed = [result.scores for result in predict.stream([*pictures()], channels="RGB")]
    assert len(listed) == 7
    assert list(predict.stream([])) == []
    with pytest.raises(DataError, match="no_such_photo"):
        next(predict.stream(["no_such_photo.jpg"]))
    with pytest.raises(ConfigError, match="batch_size is 0; at least 1"):
        predict.stream([], batch_size=0)


def test_the_threshold_may_be_changed_and_is_checked(run: Path, photo: np.ndarray) -> None:
    predict = Predictor(run, confidence_threshold=0, device=torch.device("cpu"))
    everything = predict(photo, channels="RGB")
    predict.confidence_threshold = float(np.median(everything.scores))
    some = predict(photo, channels="RGB")
    assert len(some) == (everything.scores >= predict.confidence_threshold).sum() < len(everything)
    with pytest.raises(ConfigError, match="confidence_threshold is 50; it must be a number"):
        predict.confidence_threshold = 50
    with pytest.raises(ConfigError, match=r"confidence_threshold is '0\.3'; it must be a number"):
        predict.confidence_threshold = "0.3"  # type: ignore[assignment]
    assert predict.confidence_threshold <= 1


@pytest.mark.parametrize("kind", ["run", "config"])
def test_a_pickled_predictor_finds_the_same(run: Path, photo: np.ndarray, kind: str) -> None:
    source = run if kind == "run" else trained_cfg(run)
    predict = Predictor(source, classes=[0], tile=(64, 8))
    predict.confidence_threshold = 0
    if isinstance(source, CfgNode):
        source.MODEL.WEIGHTS = "nowhere.pth"
    again = pickle.loads(pickle.dumps(predict))
    one, other = predict(photo, channels="RGB"), again(photo, channels="RGB")
    assert len(one) > 0
    assert all(map(np.array_equal, fields(one), fields(other)))
    assert again.class_names == predict.class_names


def test_threshold_and_classes_leave_out(run: Path, photo: np.ndarray) -> None:
    everything = Predictor(run, confidence_threshold=0)(photo, channels="RGB")
    middle = float(np.median(everything.scores))
    some = Predictor(run, confidence_threshold=middle)(photo, channels="RGB")
    assert len(some) == (everything.scores >= middle).sum() < len(everything)
    label = int(everything.labels[0])
    for wanted in ([NAMES[label]], [label], NAMES[label]):
        predict = Predictor(run, confidence_threshold=0, classes=wanted)
        assert set(predict(photo, channels="RGB").labels.tolist()) == {label}
    with pytest.raises(ConfigError, match=r"classes has 'grape'; .* are apple, pear, plum"):
        Predictor(run, classes=["grape"])
    with pytest.raises(ConfigError, match="classes has 3"):
        Predictor(run, classes=[3])


def test_a_result_draws_itself_and_becomes_coco_and_polygons(
    run: Path, photo: np.ndarray, tmp_path: Path
) -> None:
    result = Predictor(run, confidence_threshold=0)(photo, channels="RGB")
    drawn = result.plot(tmp_path / "drawn.png")
    assert drawn.shape == photo.shape
    assert (drawn != photo).any()
    written = cv2.imread(str(tmp_path / "drawn.png"))
    assert np.array_equal(written[:, :, ::-1], drawn)
    coco = result.to_coco(image_id=7)
    assert [entry["image_id"] for entry in coco] == [7] * len(result)
    for entry, mask, outlines in zip(coco, result.masks, result.polygons(), strict=True):
        assert np.array_equal(mask_util.decode(entry["segmentation"]).astype(bool), mask)
        assert all(outline.ndim == 2 and outline.shape[1] == 2 for outline in outlines)
        assert bool(outlines) == bool(mask.any()) or mask.sum() < 3
    assert repr(result) == f"Result(70x50, {len(result)} instances)"
    with pytest.raises(DataError, match=r"\.xyz is not an image format; use .png or .jpg"):
        result.plot(tmp_path / "drawn.xyz")


def test_what_a_model_does_not_predict_is_said(run: Path, photo: np.ndarray) -> None:
    result = Predictor(run)(photo, channels="RGB")
    with pytest.raises(AttributeError, match="no panoptic segmentation, but instances"):
        _ = result.panoptic
    with pytest.raises(AttributeError, match="no semantic segmentation"):
        _ = result.semantic


def test_panoptic_and_semantic_results(tmp_path: Path, photo: np.ndarray) -> None:
    opts = ["MODEL.MASK_FORMER.TEST.SEMANTIC_ON", True]
    tiny_run(tmp_path / "run", "MaskFormer", *opts)
    result = Predictor(tmp_path / "run", confidence_threshold=0)(photo, channels="RGB")
    segments, infos = result.panoptic
    assert segments.shape == result.semantic.shape == (50, 70)
    assert {info["id"] for info in infos} <= set(np.unique(segments).tolist())
    assert set(np.unique(result.semantic)) <= {0, 1, 2}
    label = infos[0]["category_id"]
    others = [other for other in range(3) if other != label]
    predict = Predictor(tmp_path / "run", confidence_threshold=0, classes=others)
    kept = predict(photo, channels="RGB")
    assert np.array_equal(kept.semantic, np.where(result.semantic == label, 3, result.semantic))
    assert not kept.panoptic[0][segments == infos[0]["id"]].any()
    assert {info["category_id"] for info in kept.panoptic[1]} <= set(others)
    assert not (kept.labels == label).any()
    above = Predictor(tmp_path / "run", confidence_threshold=1)(photo, channels="RGB")
    assert not above.panoptic[0].any()
    assert above.panoptic[1] == []


def test_the_scores_of_every_class_are_made_when_they_are_read(
    tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_run(tmp_path / "run", "MaskFormer", "MODEL.MASK_FORMER.TEST.SEMANTIC_ON", True)
    predict = Predictor(tmp_path / "run", confidence_threshold=0)
    (expected,) = predict._predict([photo[:, :, ::-1].copy()])
    assert isinstance(expected["sem_seg"], torch.Tensor)
    count: list[LateScores] = []
    make = LateScores.made
    monkeypatch.setattr(LateScores, "made", lambda late: (count.append(late), make(late))[1])
    result = predict(photo, channels="RGB")
    assert "sem_seg" in repr(result)
    result.plot()
    result.save(tmp_path / "files", "panoptic", "label-map")
    labels = expected["sem_seg"].argmax(0).numpy()
    assert np.array_equal(result.semantic, labels)
    assert np.array_equal(cv2.imread(str(tmp_path / "files/label_maps/picture.png"), -1), labels)
    assert not count
    scores = result.predictions["sem_seg"]
    assert isinstance(scores, torch.Tensor)
    torch.testing.assert_close(scores, expected["sem_seg"], rtol=1e-5, atol=1e-6)
    assert result.predictions["sem_seg"] is scores
    assert len(count) == 1
    assert np.array_equal(result.semantic, labels)


def test_a_config_takes_weights(run: Path, photo: np.ndarray, tmp_path: Path) -> None:
    cfg = tiny_cfg(opts=SMALL)
    weights = run / "model_final.pth"
    expected = fields(Predictor(run, confidence_threshold=0)(photo, channels="RGB"))
    for source in (cfg, run / "config.yaml"):
        predict = Predictor(source, weights, confidence_threshold=0)
        for one, other in zip(fields(predict(photo, channels="RGB")), expected):
            assert np.array_equal(one, other)
    assert cfg.MODEL.WEIGHTS == ""


@pytest.mark.parametrize("given", [None, torch.nn.Identity(), {"MODEL": {}}])
def test_what_is_no_source_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match=rf"A {type(given).__name__} is no source of a model"):
        Predictor(given)


def test_a_run_that_has_not_ended_gives_its_last_checkpoint(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "running"
    folder.mkdir()
    (folder / "config.yaml").write_text((run / "config.yaml").read_text())
    with pytest.raises(DataError, match=r"neither model_final\.pth nor another checkpoint"):
        Predictor(folder)
    (folder / "model_0000009.pth").write_bytes((run / "model_final.pth").read_bytes())
    (folder / "last_checkpoint").write_text("model_0000009.pth")
    assert Predictor(folder).class_names == NAMES


def test_a_run_whose_newest_weights_are_damaged_gives_the_newest_whole_ones(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    whole = (run / "model_final.pth").read_bytes()
    content = torch.load(run / "model_final.pth", weights_only=True)
    name = next(iter(content["model"]))
    for number in (3, 5):
        (tmp_path / f"model_{number:07d}.pth").write_bytes(whole)
    (tmp_path / "model_0000005_ema.pth").write_bytes(whole)
    (tmp_path / "last_checkpoint").write_text("model_0000007.pth")
    content["model"][name] = torch.full_like(content["model"][name], float("nan"))
    torch.save(content, tmp_path / "model_0000007.pth")
    (tmp_path / "model_final.pth").write_bytes(whole[: len(whole) // 2])
    assert Predictor(tmp_path).class_names == NAMES
    (line,) = [line for line in caplog.messages if "Taken instead" in line]
    assert line.endswith(f"Taken instead: {tmp_path}/model_0000005.pth.")
    assert f"{tmp_path}/model_final.pth can't be read" in line
    assert f"{tmp_path}/model_0000007.pth: 1 weights are not finite, {name} first" in line
    for path in tmp_path.glob("model_*.pth"):
        path.write_bytes(whole[:100])
    with pytest.raises(DataError, match=rf"{tmp_path} has no intact checkpoint .*Give weigh"):
        Predictor(tmp_path)


def test_it_refuses_what_the_verbs_refuse(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save({"model": {"some.weight": torch.zeros(3)}}, other)
    with pytest.raises(DataError, match="has none of the model's"):
        Predictor(run, other)
    with pytest.raises(DataError, match="no_such_run: there is no such file"):
        Predictor("no_such_run")
    with pytest.raises(ConfigError, match=r"MODEL\.DEVICE nowhere"):
        Predictor(run, device="nowhere")
    with pytest.raises(ConfigError, match=r"MODEL.INFERENCE.PRECISION is 'int8'; allowed"):
        Predictor(run, precision="int8")
    with pytest.raises(ConfigError, match="confidence_threshold is 50"):
        Predictor(run, confidence_threshold=50)


@pytest.mark.slow
def test_an_exported_folder_gives_what_the_model_gives(
    run: Path, photo: np.ndarray, tmp_path: Path
) -> None:
    cfg = trained_cfg(run)
    model = load_predictor(cfg, as_trained=True).model
    folder = tmp_path / "exported"
    export_model(model, cfg, Metadata(thing_classes=NAMES), folder, Options())
    result = Predictor(folder, confidence_threshold=0)(photo, channels="RGB")
    expected = Predictor(run, confidence_threshold=0)(photo, channels="RGB")
    assert len(result) == len(expected) > 0
    assert result.names == expected.names
    assert np.allclose(result.scores, expected.scores, atol=1e-4)
    with pytest.raises(ConfigError, match=r"is an exported model.*fixed"):
        Predictor(folder, precision="float16")


def test_a_model_of_the_zoo(photo: np.ndarray) -> None:
    predict = Predictor.from_zoo("quickstart/solov2.yaml", trained=False, device="cpu")
    assert predict(photo, channels="RGB").image.shape == photo.shape
    with pytest.raises(DataError, match="has no published weights"):
        Predictor.from_zoo("quickstart/solov2.yaml")


@pytest.mark.parametrize(
    "name",
    [
        # Both kinds are alike here.
        pytest.param(name, marks=pytest.mark.slow if name.startswith("benchmarks") else ())
        for name in model_zoo.list()
        if name.startswith(("quickstart", "benchmarks"))
    ],
)
def test_configs_of_own_data_build_without_it(name: str) -> None:
    cfg = model_zoo.get_config(name, device="meta")
    assert cfg.MODEL.WEIGHTS == ""
    with torch.device("meta"):
        assert model_zoo.get(name, trained=False, device="meta") is not None
