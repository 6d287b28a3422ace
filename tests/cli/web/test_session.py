"""What a page shows of its pictures, and the lines about those that can't be shown."""

import json
import logging
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from solo_family import METHODS
from solo_family.cli.source import Source
from solo_family.cli.web import session as session_module
from solo_family.cli.web.downloads import KINDS, kinds_for
from solo_family.cli.web.handlers import Handlers, message
from solo_family.cli.web.model import Closed, WebModel
from solo_family.cli.web.session import Session
from solo_family.cli.web.sessions import Sessions
from solo_family.cli.web.words import Choice
from solo_family.data.loading.images import Reading
from solo_family.errors import ConfigError, DataError
from solo_family.predictor.sources import open_source
from solo_family.saving.filters import Filters
from solo_family.tiling.tiles import Tiling

from ...conftest import eager_to_find, tiny_cfg, tiny_model
from .models import (
    BRIGHT,
    FAINT,
    H,
    W,
    find_classes,
    find_instances,
    find_segments,
    save,
    scene,
    web_model,
)

LOW = Choice(0.1)


def opened(tmp_path: Path, *uploads: str, model: WebModel | None = None) -> Session:
    """A session that has segmented files."""
    parent = tmp_path / "pages"
    parent.mkdir(exist_ok=True)
    session = Session(model or web_model(), parent)
    list(session.segment(uploads))
    return session


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def upload(tmp_path: Path) -> str:
    return save(tmp_path / "a" / "x.png", scene())


def test_the_threshold_and_the_classes_choose_without_another_prediction(
    tmp_path: Path, upload: str
) -> None:
    calls: list[int] = []

    def counted(image: np.ndarray) -> dict[str, Any]:
        calls.append(1)
        return find_instances(image)

    session = opened(tmp_path, upload, model=web_model(counted))
    shown = {
        choice: (found := session.show(0, choice)).text.removeprefix("x.png: ")
        + f"|{len(found.rows)}"
        for choice in (LOW, Choice(0.7), Choice(0.1, (0,)), Choice(0.7, (0,)))
    }
    assert list(shown.values()) == [
        "2 objects|2",
        "1 object|1",
        "1 object|1",
        "no object of the chosen classes with a score of 0.70 or more; the best of all has 1.00|0",
    ]
    assert calls == [1]


def test_a_picture_is_shown_in_its_colours(tmp_path: Path) -> None:
    blue = scene()
    blue[-8:] = (20, 40, 200)  # RGB
    session = opened(tmp_path, save(tmp_path / "x.png", blue))
    assert session.show(0, LOW).image[-1, 0].tolist() == [20, 40, 200]
    assert session.pictures[0].small[-1, 0].tolist() == [20, 40, 200]


def test_nothing_found_is_said(tmp_path: Path) -> None:
    session = opened(tmp_path, save(tmp_path / "dark.png", np.zeros((H, W, 3), np.uint8)))
    assert session.show(0, LOW).text == "dark.png: no object found"
    assert session.show(0, LOW).rows == []


@pytest.mark.parametrize(
    ("find", "text"), [(find_classes, "x.png: 2 classes"), (find_segments, "x.png: 2 segments")]
)
def test_models_of_pixels_and_segments_are_shown(
    find: Any, text: str, tmp_path: Path, upload: str
) -> None:
    shown = opened(tmp_path, upload, model=web_model(find)).show(0, LOW)
    assert (shown.text, len(shown.rows)) == (text, 2)


def test_each_file_that_can_not_be_read_has_a_line_and_the_others_are_shown(
    tmp_path: Path, upload: str
) -> None:
    broken, video = tmp_path / "b" / "broken.png", tmp_path / "c" / "clip.mp4"
    for path in (broken, video):
        path.parent.mkdir()
        path.write_bytes(bytes(range(64)))
    large = save(tmp_path / "d" / "large.png", np.zeros((90, 90, 3), np.uint8))
    model = web_model(reading=Reading(max_pixels=H * W))
    session = opened(tmp_path, str(broken), upload, str(video), large, model=model)
    assert [picture.name for picture in session.pictures] == ["x.png"]
    broken_line, video_line, large_line = session.problems
    assert broken_line == "broken.png can't be read as an image: cannot identify image file"
    assert video_line.startswith("clip.mp4 is a video; this page takes pictures.")
    assert large_line.startswith("large.png has 90 x 90 pixels, and files of more than 3072 pixels")
    assert str(tmp_path) not in "".join(session.problems)


def test_an_unexpected_error_is_a_line_without_a_traceback(
    tmp_path: Path, upload: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: np.ndarray) -> dict[str, Any]:
        raise KeyError("secret")

    with caplog.at_level(logging.ERROR):
        session = opened(tmp_path, upload, model=web_model(fails))
    assert session.problems == ["x.png: unexpected error (KeyError); the terminal shows more."]
    assert "secret" in caplog.text  # there


def test_only_new_files_are_predicted_and_those_that_are_gone_are_removed(
    tmp_path: Path, upload: str
) -> None:
    second = save(tmp_path / "b" / "y.png", scene())
    session = opened(tmp_path, upload)
    assert list(session.segment([upload, second])) == ["Segmenting y.png …"]
    assert files_of(tmp_path / "pages") == ["x.png", "y.png"]
    assert list(session.segment([second])) == []
    assert [picture.name for picture in session.pictures] == ["y.png"]
    assert files_of(tmp_path / "pages") == ["y.png"]
    session.close()
    assert not list((tmp_path / "pages").iterdir())
    assert Path(upload).exists()


def test_a_picture_outlives_its_upload(tmp_path: Path, upload: str) -> None:
    session = opened(tmp_path, upload, save(tmp_path / "b" / "y.png", scene()))
    Path(upload).unlink()
    assert session.show(0, LOW).text == "x.png: 2 objects"


def test_too_many_files_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MOST_FILES", 2)
    uploads = [save(tmp_path / str(place) / "x.png", scene()) for place in range(3)]
    session = opened(tmp_path, *uploads)
    assert (len(session.pictures), session.problems) == (
        2,
        ["Only the first 2 files are segmented."],
    )


def test_every_page_of_a_tiff_is_a_picture(tmp_path: Path) -> None:
    pages = [Image.fromarray(scene()), Image.fromarray(scene()[:, ::-1].copy())]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    session = opened(tmp_path, str(tmp_path / "scan.tif"))
    assert [picture.name for picture in session.pictures] == ["scan_p001.tif", "scan_p002.tif"]
    assert [session.show(place, LOW).rows[0].box[0] for place in (0, 1)] == [4, 40]


def test_tiles_and_filters_of_the_flags_apply(tmp_path: Path) -> None:
    sizes: list[tuple[int, ...]] = []

    def noted(image: np.ndarray) -> dict[str, Any]:
        sizes.append(image.shape[:2])
        return find_instances(image)

    upload = save(tmp_path / "x.png", np.pad(scene(), ((0, 40), (0, 60), (0, 0))))
    model = web_model(noted, tiling=Tiling(size=64, overlap=8), filters=Filters(min_size=300))
    session = opened(tmp_path, upload, model=model)
    assert set(sizes) == {(64, 64)}
    (row,) = session.show(0, LOW).rows
    assert (row.area, row.box) == (480, (4, 10, 24, 34))


def test_a_page_that_is_closed_predicts_nothing_more(tmp_path: Path, upload: str) -> None:
    model = web_model()
    session = opened(tmp_path, upload, model=model)
    assert model.close()
    with pytest.raises(Closed):
        model(session.pictures[0].source)


def test_pictures_are_saved_as_they_are_shown(tmp_path: Path, upload: str) -> None:
    session = opened(tmp_path, upload)
    path = session.save("png", LOW)
    assert path.name == "x.png"
    changed = (np.asarray(Image.open(path)) != scene()).any(axis=2)
    assert not changed[:, 24:40].any()
    assert changed[BRIGHT].mean() > 0.9
    assert changed[FAINT].mean() > 0.9
    session.save("coco", LOW)
    assert not path.exists()  # the next download replaces it


def test_files_of_several_pictures_are_one_zip_with_distinct_names(
    tmp_path: Path, upload: str
) -> None:
    session = opened(tmp_path, upload, save(tmp_path / "b" / "X.png", scene()))
    with zipfile.ZipFile(session.save("png", LOW)) as archive:
        assert sorted(archive.namelist()) == ["X_2.png", "x.png"]


def test_a_coco_file_has_all_pictures_what_is_shown_of_them_and_no_path_of_this_machine(
    tmp_path: Path, upload: str
) -> None:
    session = opened(tmp_path, upload, save(tmp_path / "b" / "dark.png", scene() // 9))
    path = session.save("coco", Choice(0.7))
    content = json.loads(path.read_text())
    assert path.name == "coco.json"
    assert [image["file_name"] for image in content["images"]] == ["x.png", "dark.png"]
    assert [one["category_id"] for one in content["annotations"]] == [20]
    assert len(json.loads(session.save("coco", LOW).read_text())["annotations"]) == 2
    for kind in ("coco-results", "csv", "geojson"):
        assert str(tmp_path) not in session.save(kind, LOW).read_bytes().decode("latin-1")


@pytest.mark.parametrize("find", [find_instances, find_classes, find_segments])
def test_every_format_that_is_offered_can_be_saved(find: Any, tmp_path: Path, upload: str) -> None:
    session = opened(tmp_path, upload, model=web_model(find))
    kinds = kinds_for(session.pictures[0].predictions)
    assert {"png", "pictures", "label-map", "panoptic"} <= set(kinds)
    assert ("coco" in kinds) == (find is not find_classes)
    for kind in kinds:
        assert session.save(kind, LOW).stat().st_size > 0
    for kind in set(KINDS) - set(kinds):
        with pytest.raises(ConfigError, match="needs instances"):
            session.save(kind, LOW)


def test_a_download_without_content_is_refused(tmp_path: Path, upload: str) -> None:
    session = opened(tmp_path, upload)
    with pytest.raises(DataError, match="nothing to save"):
        session.save("cutouts", Choice(1.0, (0,)))
    with pytest.raises(ConfigError, match="The format is 'exe'"):
        session.save("exe", LOW)


@pytest.fixture
def handlers(tmp_path: Path) -> Handlers:
    folder = tmp_path / "all"
    folder.mkdir()
    return Handlers(Sessions(web_model(), folder))


def test_the_page_begins_with_what_to_do_and_shows_what_is_dropped(
    handlers: Handlers, upload: str
) -> None:
    assert "Drop pictures" in handlers.show("me", 0, LOW)["message"]
    *before, last = handlers.segment("me", [upload], LOW)
    assert "Segmenting x.png" in before[0]["message"]
    assert [row[1:] for row in last["table"]] == [
        ["high", 1.0, 480, "4, 10, 24, 34"],
        ["low", 0.6, 200, "40, 5, 60, 15"],
    ]
    assert (last["downloads"], last["coco"], last["threshold"]) == (True, True, True)
    assert "Drop pictures" in handlers.show("another", 0, LOW)["message"]  # who sees nothing of it
    *_, cleared = handlers.segment("me", None, LOW)
    assert (cleared["image"], cleared["downloads"], cleared["threshold"]) == (None, False, True)


def test_a_picture_that_is_added_is_shown_and_removing_it_shows_another(
    handlers: Handlers, upload: str, tmp_path: Path
) -> None:
    second = save(tmp_path / "b" / "y.png", scene())
    list(handlers.segment("me", [upload], LOW))
    *_, added = handlers.segment("me", [upload, second], LOW)
    assert (added["index"], "y.png: 2 objects" in added["message"]) == (1, True)
    assert [name for _, name in added["thumbnails"]] == ["x.png", "y.png"]
    *_, removed = handlers.segment("me", [upload], LOW)
    assert (removed["index"], "x.png: 2 objects" in removed["message"]) == (0, True)
    # A choice that the browser made before it knew of that.
    assert "x.png: 2 objects" in handlers.show("me", 1, LOW)["message"]


def test_a_picture_that_went_meanwhile_is_not_shown_again(
    handlers: Handlers, upload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(handlers.segment("me", [upload], LOW))
    drawn = session_module.draw

    def cleared_meanwhile(*given: Any, **more: Any) -> np.ndarray:
        list(handlers.segment("me", [], LOW))
        return drawn(*given, **more)

    monkeypatch.setattr(session_module, "draw", cleared_meanwhile)
    assert handlers.show("me", 0, LOW)["image"] is None


def test_the_first_of_several_pictures_is_shown_while_the_others_are_predicted(
    handlers: Handlers, upload: str, tmp_path: Path
) -> None:
    second = save(tmp_path / "b" / "y.png", scene())
    first, after, last = handlers.segment("me", [upload, second], LOW)
    assert "image" not in first
    assert len(after["table"]) == 2
    assert "Segmenting y.png, 2 of 2" in after["message"]
    assert "x.png: 2 objects" in last["message"]


def test_a_page_that_is_closed_while_it_works_leaves_nothing(
    handlers: Handlers, upload: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    second = save(tmp_path / "b" / "y.png", scene())
    sessions = handlers._sessions
    working = handlers.segment("me", [upload, second], LOW)
    next(working)
    sessions.close("me")
    list(working)
    assert caplog.text == ""
    assert [path.name for path in (tmp_path / "all").rglob("*")] == ["pages"]


def test_an_unexpected_error_of_showing_is_a_line(
    handlers: Handlers, upload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(handlers.segment("me", [upload], LOW))

    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(session_module, "draw", fails)
    assert "unexpected error (MemoryError)" in handlers.show("me", 0, LOW)["message"]
    monkeypatch.setattr(session_module, "write_download", fails)
    assert "unexpected error (MemoryError)" in handlers.save("me", "png", LOW)["message"]


def test_a_download_that_fails_is_a_line(handlers: Handlers, upload: str) -> None:
    list(handlers.segment("me", [upload], LOW))
    assert handlers.save("me", "coco", LOW)["file"].endswith("coco.json")
    failed = handlers.save("me", "cutouts", Choice(1.0, (0,)))
    assert failed["file"] is None
    assert "nothing to save" in failed["message"]


def test_names_of_files_are_no_html() -> None:
    assert "<img" not in message("<img src=x>.png: 1 object", ["<img src=y>.png can't be read"])


def test_old_files_of_gradio_are_removed_and_those_of_pages_stay(
    tmp_path: Path, upload: str
) -> None:
    sessions = Sessions(web_model(), tmp_path)
    list(sessions.of("me").segment([upload]))
    sessions.remove_old(seconds=-1)
    assert [path.name for path in tmp_path.iterdir()] == ["pages"]
    assert files_of(tmp_path) == ["x.png"]
    sessions.close("me")
    assert files_of(tmp_path) == []


def test_pictures_of_several_pages_are_predicted_one_at_a_time(tmp_path: Path) -> None:
    at_once: list[int] = []
    working = 0

    def find(image: np.ndarray) -> dict[str, Any]:
        nonlocal working
        working += 1
        at_once.append(working)
        time.sleep(0.02)
        working -= 1
        return find_instances(image)

    model = web_model(find)
    source = Source(Path(save(tmp_path / "x.png", scene())), is_video=False)
    with ThreadPoolExecutor(4) as pages:
        list(pages.map(model, [source] * 8))
    assert at_once == [1] * 8


SEMANTIC = [
    "MODEL.MASK_FORMER.TEST.PANOPTIC_ON",
    False,
    "MODEL.MASK_FORMER.TEST.INSTANCE_ON",
    False,
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "opts"), [*((name, []) for name in METHODS), ("MaskFormer", SEMANTIC)]
)
def test_models_of_every_method_are_shown_and_saved(
    method: str, opts: list[Any], tmp_path: Path
) -> None:
    opts = [*opts, "TEST.DETECTIONS_PER_IMAGE", 4]
    weights = tmp_path / "model.pth"
    torch.save({"model": eager_to_find(tiny_model(method, opts=opts)).state_dict()}, weights)
    source = open_source(tiny_cfg(method, opts=opts), weights, [])
    session = opened(
        tmp_path, save(tmp_path / "x.png", scene()), model=WebModel(source, name=method)
    )
    assert session.problems == []
    shown = session.show(0, Choice(0.0))
    assert shown.rows
    assert session.show(0, Choice(0.0, (1,))).image.shape == shown.image.shape
    kinds = kinds_for(session.pictures[0].predictions)
    assert ("coco" in kinds) == (SEMANTIC[0] not in opts)
    for kind in kinds:
        assert session.save(kind, Choice(0.0)).stat().st_size > 0
