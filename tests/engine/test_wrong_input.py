"""What users get wrong: each mistake is one line that names it, and exit status 2.

One process makes all the mistakes of the table, a fork of this one, each through train_net.py's own
`main`, because starting Python for each would take minutes; some are made from the shell as well.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from detectron2.data.datasets import register_coco_instances
from detectron2.modeling import build_model

from solo_family.engine.main import main as train_net

from ..coco_folder import CocoFolder, noise, rectangle, run_cfg, small_dataset, write_cfg
from ..conftest import ROOT
from ..forked import Forked


def make_all(mistakes: dict[str, list[str]], registered: tuple[str, str], results: Path) -> int:
    """Makes mistakes by their words; writes each one's exit status and standard error."""
    register_coco_instances("registered", {}, *registered)
    outcomes = {}
    for name, words in mistakes.items():
        print("===", name, flush=True)
        stream = io.StringIO()
        with contextlib.redirect_stderr(stream):
            try:
                status: int | str = train_net(words)
            except BaseException as error:
                status = repr(error)
        outcomes[name] = (status, stream.getvalue())
    results.write_text(json.dumps(outcomes))
    return 0


class Place(NamedTuple):
    """A folder of a mistake's own, a dataset without mistakes, and weights of a tiny model."""

    root: Path
    good: CocoFolder
    weights: Path

    def config(self, *opts: Any) -> list[str]:
        """Returns the words of a good run, with `opts` changed."""
        cfg = run_cfg(self.good.name, self.root / "run", "SOLVER.MAX_ITER", 1, *opts)
        return ["--config-file", str(write_cfg(self.root / "config.yaml", cfg))]

    def dataset(self, change: Callable[[dict[str, Any]], Any]) -> list[str]:
        """Returns the words of a run on a dataset whose json was changed."""
        folder = CocoFolder(self.root / "data", {1: "cat", 2: "dog"})
        for index in range(5):
            folder.add(f"{index}.png", noise(48, 64), [rectangle(5, 5, 20, 20)])
        change(folder.content)
        return self.config("DATASETS.TRAIN", (folder.write(),))

    def text(self, content: str, *rest: str) -> list[str]:
        (self.root / "text.yaml").write_text(content)
        return ["--config-file", str(self.root / "text.yaml"), *rest]

    def file(self, name: str, content: bytes) -> str:
        path = self.root / name
        path.write_bytes(content)
        return str(path)


def circle(place: Place) -> list[str]:
    for one, other in (("a", "b"), ("b", "c"), ("c", "a")):
        (place.root / f"{one}.yaml").write_text(f"_BASE_: {other}.yaml\n")
    return ["--config-file", str(place.root / "a.yaml")]


def not_json(place: Place) -> list[str]:
    path = place.file("broken.json", b"{'images': [")
    return place.config("DATASETS.TRAIN", (f"coco_json:{path}:{place.root}",))


def list_json(place: Place) -> list[str]:
    path = place.file("list.json", b"[1, 2]")
    return place.config("DATASETS.TRAIN", (f"coco_json:{path}:{place.root}",))


def twice(part: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: [item.update(id=7) for item in content[part]]


def with_key(key: str, value: object, place: Place) -> list[str]:
    return place.config(key, value)


def with_change(change: Callable[[dict[str, Any]], Any], place: Place) -> list[str]:
    return place.dataset(change)


def missing_images(content: dict[str, Any]) -> None:
    for image in content["images"][1:]:
        image["file_name"] = f"gone/none{image['file_name']}"


def cut_image(place: Place) -> list[str]:
    folder = CocoFolder(place.root / "data", {1: "cat"})
    path = folder.add("cut.png", noise(48, 64), [rectangle(5, 5, 20, 20)])
    path.write_bytes(path.read_bytes()[:2000])
    return place.config("DATASETS.TRAIN", (folder.write(),))


def cut_image_of_many(place: Place) -> list[str]:
    folder = small_dataset(place.root / "data")
    path = folder.root / "images" / "3.png"
    path.write_bytes(path.read_bytes()[:2000])
    return place.config("DATASETS.TRAIN", (folder.name,), "SOLVER.MAX_ITER", 6)


def wrong_size(place: Place) -> list[str]:
    folder = CocoFolder(place.root / "data", {1: "cat"})
    folder.add("0.png", noise(48, 64), [rectangle(5, 5, 20, 20)], size=(64, 48))
    return place.config("DATASETS.TRAIN", (folder.write(),))


def other_weights(place: Place) -> list[str]:
    path = place.root / "other.pth"
    torch.save({"model": {"layer.weight": torch.zeros(2)}}, path)
    return place.config("MODEL.WEIGHTS", str(path))


def not_weights(place: Place) -> list[str]:
    return place.config("MODEL.WEIGHTS", place.file("text.pth", b"hello"))


def cut_weights(place: Place) -> list[str]:
    content = place.weights.read_bytes()
    return place.config("MODEL.WEIGHTS", place.file("cut.pth", content[: len(content) // 2]))


def partial_weights(place: Place) -> list[str]:
    state = torch.load(place.weights, weights_only=True)["model"]
    path = place.root / "backbone.pth"
    torch.save({"model": {k: v for k, v in state.items() if k.startswith("backbone.")}}, path)
    words = place.config("MODEL.WEIGHTS", str(path), "DATASETS.TEST", (place.good.name,))
    return [*words, "--eval-only"]


def misshapen_weights(place: Place) -> list[str]:
    opts = ["MODEL.WEIGHTS", str(place.weights), "DATASETS.TEST", (place.good.name,)]
    return [*place.config(*opts, "MODEL.SOLOV2.INSTANCE_CHANNELS", 8), "--eval-only"]


def other_classes(place: Place, key: str) -> list[str]:
    folder = CocoFolder(place.root / "data", {1: "cat", 2: "dog", 3: "cow"})
    folder.add("0.png", noise(48, 64), [rectangle(5, 5, 20, 20)])
    names = (folder.write(),) if key == "DATASETS.TEST" else (place.good.name, folder.write())
    return place.config(key, names)


def renamed_classes(place: Place) -> list[str]:
    folder = CocoFolder(place.root / "data", {1: "cat", 2: "cow"})
    folder.add("0.png", noise(48, 64), [rectangle(5, 5, 20, 20)])
    return place.config("DATASETS.TRAIN", (place.good.name, folder.write()))


def nowhere(place: Place) -> list[str]:
    return place.config("OUTPUT_DIR", place.file("file", b"") + "/below")


SOLOV2 = "MODEL.SOLOV2"
LEVELS = "One entry per level is needed in each of these keys: "
# Name: how to make the mistake, and the line (a regular expression; ROOT is its folder).
MISTAKES: dict[str, tuple[Callable[[Place], list[str]], str]] = {
    # Configs.
    "no config": (
        lambda p: [],
        r"--config-file is needed: name a yaml file, for instance from configs/\.",
    ),
    "config missing": (
        lambda p: ["--config-file", str(p.root / "none.yaml")],
        r"--config-file ROOT/none\.yaml: there is no such file\. Correct the path\.",
    ),
    "base missing": (
        lambda p: p.text("_BASE_: none.yaml\n"),
        r"_BASE_ of ROOT/text\.yaml names ROOT/none\.yaml: there is no such file\. Correct the .*",
    ),
    "base circular": (
        circle,
        r"_BASE_ forms a cycle: ROOT/a\.yaml -> ROOT/b\.yaml -> ROOT/c\.yaml -> "
        r"ROOT/a\.yaml\. Remove _BASE_ from one of these files, or let it inherit from .*",
    ),
    "not yaml": (lambda p: p.text("MODEL: [1,\n"), r"ROOT/text\.yaml is not yaml: .+"),
    "a list": (
        lambda p: p.text("- 1\n"),
        r"ROOT/text\.yaml must have keys and values, but is a list\. Write KEY: value pairs\.",
    ),
    "code": (
        lambda p: p.text("MODEL: {WEIGHTS: !!python/object/apply:os.system ['touch x']}\n"),
        r"ROOT/text\.yaml has .*python/object/apply:os\.system.*: code in a config is not run\. "
        r"Write the value itself, .*",
    ),
    "unknown key in the file": (
        lambda p: p.text("MODEL: {SOLOV2: {NUM_CLASES: 3}}\n"),
        r"There is no key MODEL\.SOLOV2\.NUM_CLASES\. The most similar key is .*\.NUM_CLASSES\. .*",
    ),
    "unknown key": (
        lambda p: [*p.config(), "SOLVER.BASELR", "0.1"],
        r"There is no key SOLVER\.BASELR\. The most similar key is SOLVER\.BASE_LR\. .*",
    ),
    "another type in the file": (
        lambda p: p.text("SOLVER: {BASE_LR: fast}\n"),
        r"ROOT/text\.yaml: Type mismatch .*float.* vs\. .*str.*fast.* SOLVER\.BASE_LR\. "
        r"Write a number\.",
    ),
    "another type": (
        lambda p: [*p.config(), "SOLVER.BASE_LR", "fast"],
        r"SOLVER\.BASE_LR fast: Type mismatch .*float.* vs\. .*str.*",
    ),
    "no pairs": (
        lambda p: [*p.config(), "SOLVER.BASE_LR"],
        r"The overrides must be KEY VALUE pairs, but 1 words were given: SOLVER\.BASE_LR\. .*",
    ),
    # Levels.
    **{
        f"{key}: another length": (
            partial(with_key, f"{SOLOV2}.{key}", value),
            rf"{LEVELS}.*{SOLOV2}\.{key} has 1.*",
        )
        for key, value in {
            "NUM_GRIDS": [12],
            "FPN_INSTANCE_STRIDES": [8],
            "FPN_SCALE_RANGES": ((1, 96),),
            "INSTANCE_IN_FEATURES": ["p2"],
        }.items()
    },
    "a grid of 0": (
        lambda p: p.config(f"{SOLOV2}.NUM_GRIDS", [12, 10, 8, 6, 0]),
        r"MODEL\.SOLOV2\.NUM_GRIDS is \[12, 10, 8, 6, 0\]; whole numbers from 1 are needed\.",
    ),
    "a range that is no pair": (
        lambda p: p.config(f"{SOLOV2}.FPN_SCALE_RANGES", (1, 2, 3, 4, 5)),
        r"MODEL\.SOLOV2\.FPN_SCALE_RANGES has 1; each entry must be a pair: \(low, high\)\.",
    ),
    "an unknown feature of the head": (
        lambda p: p.config(f"{SOLOV2}.INSTANCE_IN_FEATURES", ["p2", "p3", "p4", "p5", "p9"]),
        r"MODEL\.SOLOV2\.INSTANCE_IN_FEATURES has p9, which the backbone does not provide\. "
        r"It provides p2, p3, p4, p5, p6\. Name some of these\.",
    ),
    "an unknown feature of the mask branch": (
        lambda p: p.config(f"{SOLOV2}.MASK_IN_FEATURES", ["p2", "q3"]),
        r"MODEL\.SOLOV2\.MASK_IN_FEATURES has q3, which the backbone does not provide\. .*",
    ),
    "an unknown feature of the FPN": (
        lambda p: p.config("MODEL.FPN.IN_FEATURES", ["res2", "res9"]),
        r"MODEL\.FPN\.IN_FEATURES has res9; allowed: res2, res3, res4, res5 "
        r"\(MODEL\.RESNETS\.OUT_FEATURES\)\.",
    ),
    "an unknown feature of the ResNet": (
        lambda p: p.config("MODEL.RESNETS.OUT_FEATURES", ["res2", "res6"]),
        r"MODEL\.RESNETS\.OUT_FEATURES has res6; allowed: stem, res2, res3, res4, res5\.",
    ),
    "an unknown method": (
        lambda p: [*p.config(), "MODEL.META_ARCHITECTURE", "SOLOv3"],
        r"MODEL\.META_ARCHITECTURE is 'SOLOv3'; allowed: .*'SOLOv2'.*\.",
    ),
    "an unknown backbone": (
        lambda p: p.config("MODEL.BACKBONE.NAME", "resnet"),
        r"MODEL\.BACKBONE\.NAME is 'resnet'; allowed: .*'build_timm_fpn_backbone'.*\.",
    ),
    "an unknown schedule": (
        lambda p: p.config("SOLVER.LR_SCHEDULER_NAME", "Step"),
        r"SOLVER\.LR_SCHEDULER_NAME is 'Step'; allowed: 'WarmupMultiStepLR', .*\.",
    ),
    "an unknown clip type": (
        lambda p: p.config(
            "SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "all"
        ),
        r"SOLVER\.CLIP_GRADIENTS\.CLIP_TYPE is 'all'; allowed: value, norm, full_model\.",
    ),
    "a batch that can't be shared out": (
        lambda p: p.config("SOLVER.IMS_PER_BATCH", 0),
        r"SOLVER\.IMS_PER_BATCH is 0; it must be a multiple of the number of processes, 1\.",
    ),
    "an unknown sampler": (
        lambda p: p.config("DATALOADER.SAMPLER_TRAIN", "Mine"),
        r"DATALOADER\.SAMPLER_TRAIN is 'Mine'; allowed: TrainingSampler, .*",
    ),
    # Device and output folder.
    "a GPU that isn't there": (
        lambda p: [*p.config(), "MODEL.DEVICE", "cuda:99"],
        r"MODEL\.DEVICE cuda:99: there is no (CUDA device here\. Set MODEL\.DEVICE cpu, or .*|"
        r"such device here\. Allowed: cpu.*)",
    ),
    "a device that isn't one": (
        lambda p: [*p.config(), "MODEL.DEVICE", "gpu"],
        r"MODEL\.DEVICE gpu: there is no such device here\. Allowed: cpu.*\.",
    ),
    "an output folder below a file": (
        nowhere,
        r"OUTPUT_DIR ROOT/file/below can't be written to \(.+\)\. "
        r"Set OUTPUT_DIR to a folder that you may write to\.",
    ),
    # Datasets.
    "no dataset": (
        lambda p: p.config("DATASETS.TRAIN", (), f"{SOLOV2}.NUM_CLASSES", 3),
        r"DATASETS\.TRAIN is empty: name a dataset to train on, .*",
    ),
    "no dataset to evaluate on": (
        lambda p: [*p.config("MODEL.WEIGHTS", str(p.weights)), "--eval-only"],
        r"DATASETS\.TEST is empty: name a dataset to evaluate on, .*",
    ),
    "a dataset that is not registered": (
        lambda p: p.config("DATASETS.TRAIN", ("mine",)),
        r"Dataset 'mine' is not registered\. Register it before training, or .*",
    ),
    "json missing": (
        lambda p: p.config("DATASETS.TRAIN", (f"coco_json:{p.root}/none.json:{p.root}",)),
        r"Dataset 'coco_json:.*': there is no annotation file ROOT/none\.json\. Correct .*",
    ),
    "image folder missing": (
        lambda p: p.config("DATASETS.TRAIN", (f"coco_json:{p.good.json}:{p.root}/none",)),
        r"Dataset 'coco_json:.*': there is no image folder ROOT/none\. Correct the path\.",
    ),
    "not JSON": (
        not_json,
        r"ROOT/broken\.json is not JSON: .+\. Give the path of a COCO-format json\.",
    ),
    "not COCO": (
        list_json,
        r"ROOT/list\.json is not in COCO's format for instances: 'images' must be a list of "
        r"objects with 'id', 'file_name'\. Export it as COCO instances\.",
    ),
    "a box of two numbers": (
        lambda p: p.dataset(lambda c: c["annotations"][0].update(bbox=[1, 2])),
        r"ROOT/data/instances\.json: annotation 1 has bbox \[1, 2\]; it must be \[left, top, .*",
    ),
    "no images": (
        lambda p: p.dataset(lambda c: c["images"].clear()),
        r"ROOT/data/instances\.json has no images\. Name a file that has some; .*",
    ),
    "no categories": (
        lambda p: p.dataset(lambda c: c["categories"].clear()),
        r"ROOT/data/instances\.json has no categories: there is nothing to learn\. Add them\.",
    ),
    "no objects": (
        lambda p: p.dataset(lambda c: c["annotations"].clear()),
        r"DATASETS\.TRAIN coco_json:.*: there is nothing to learn, because no image has .*",
    ),
    "images that don't exist": (
        lambda p: p.dataset(missing_images),
        r"ROOT/data/instances\.json names 4 images of 5 that are not in ROOT/data/images: "
        r"gone/none1\.png, gone/none2\.png, gone/none3\.png and 1 more\. "
        r"Name the folder that 'file_name' is relative to, or a folder in which .*",
    ),
    **{
        f"duplicate ids of {part}": (
            partial(with_change, twice(part)),
            rf"ROOT/data/instances\.json: 1 ids in '{part}' are duplicate: 7\. "
            r"Ids must be unique: renumber the .*\.",
        )
        for part in ("images", "categories", "annotations")
    },
    "an unknown category": (
        lambda p: p.dataset(lambda c: c["annotations"][2].update(category_id=9)),
        r"ROOT/data/instances\.json: annotation 3 has category_id 9, which is not among the file's "
        r"categories\. Add it there, or remove the annotation\.",
    ),
    "an unknown image": (
        lambda p: p.dataset(lambda c: c["annotations"][2].update(image_id=99)),
        r"ROOT/data/instances\.json: annotation 3 has image_id 99, which is not among the file's "
        r"images\. .*",
    ),
    "a registered dataset with an unknown category": (
        lambda p: p.config("DATASETS.TRAIN", ("registered",)),
        r".*/registered/instances\.json: annotation 1 has category_id 5, which is not among .*",
    ),
    # Classes.
    "another class count than the training set's": (
        lambda p: p.config(f"{SOLOV2}.NUM_CLASSES", 80),
        r"MODEL\.SOLOV2\.NUM_CLASSES is 80, but dataset '.*' has 2 classes \(cat, dog\)\. "
        r"Set MODEL\.SOLOV2\.NUM_CLASSES 2, or 0 to take the count from the dataset\.",
    ),
    "another class count in the test set": (
        lambda p: other_classes(p, "DATASETS.TEST"),
        r"The model has the classes cat, dog \(2\), but dataset 'coco_json:.*' .* \(3\)\. .*",
    ),
    "another class count in the second training set": (
        lambda p: other_classes(p, "DATASETS.TRAIN"),
        r"Datasets 'coco_json:.*' and 'coco_json:ROOT/data/.*' of DATASETS\.TRAIN have different "
        r"classes: cat, dog; and .*DATASETS\.CLASS_UNION True .*",
    ),
    "other classes in the second training set": (
        renamed_classes,
        r"Datasets 'coco_json:.*' and 'coco_json:ROOT/data/.*' of DATASETS\.TRAIN have different "
        r"classes: cat, dog; and .*DATASETS\.CLASS_UNION True .*",
    ),
    # Weights.
    "weights missing": (
        lambda p: p.config("MODEL.WEIGHTS", f"{p.root}/none.pth"),
        r"MODEL\.WEIGHTS ROOT/none\.pth: there is no such file\. Give the path of a checkpoint .*",
    ),
    "weights truncated": (
        cut_weights,
        r"MODEL\.WEIGHTS ROOT/cut\.pth can't be read as a checkpoint: .+ Check that .*",
    ),
    "weights that are text": (
        not_weights,
        r"MODEL\.WEIGHTS ROOT/text\.pth can't be read as a checkpoint: .+ Check that .*",
    ),
    "weights of another model": (
        other_weights,
        r"MODEL\.WEIGHTS ROOT/other\.pth has none of the model's \d+ weights: it belongs to "
        r"another model\. Use the config\.yaml .*",
    ),
    "weights of a backbone, to evaluate": (
        partial_weights,
        r"MODEL\.WEIGHTS ROOT/backbone\.pth lacks \d+ of the model's \d+ weights, "
        r"the first is \S+: it belongs to another model, or has only a backbone\. Use .*",
    ),
    "weights of other shapes, to evaluate": (
        misshapen_weights,
        r"MODEL\.WEIGHTS .*weights\.pth: \d+ weights differ in shape from the config's model, "
        r"the first is \S+: \(.*\) in the file, \(.*\) in the model\. Use the config\.yaml that .*",
    ),
    # Images.
    "an unreadable image": (
        cut_image,
        r"ROOT/data/images/cut\.png can't be read as an image: .+ Fix or remove the file, "
        r"or train without such images by adding --skip-bad-images\.",
    ),
    "an unreadable image in the middle of an epoch": (
        cut_image_of_many,
        r"ROOT/data/images/3\.png can't be read as an image: .+ Fix or remove the file, .*",
    ),
    "only unreadable images, skipped": (
        lambda p: [*cut_image(p), "--skip-bad-images"],
        r"None of the 1 training images can be read\. The error for the last one: "
        r"ROOT/data/images/cut\.png .*",
    ),
    "an image of another size": (
        wrong_size,
        r".*ROOT/data/images/0\.png is 48 x 64, but the dataset says 64 x 48 .*Fix or remove .*",
    ),
}


class Outcomes(NamedTuple):
    folder: Path
    results: dict[str, tuple[int | str, str]]
    printed: dict[str, str]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    folder = tmp_path_factory.mktemp("mistakes").resolve()
    good = small_dataset(folder / "good")
    bad = CocoFolder(folder / "registered", {1: "cat"})
    bad.add("0.png", noise(48, 64), [rectangle(5, 5, 20, 20, category_id=5)])
    bad.write()
    weights = folder / "weights.pth"
    cfg = run_cfg(good.name, folder)
    torch.save({"model": build_model(cfg).state_dict()}, weights)
    words = {}
    for index, (name, (make, _)) in enumerate(MISTAKES.items()):
        (folder / str(index)).mkdir()
        words[name] = make(Place(folder / str(index), good, weights))
    registered = (str(bad.json), str(bad.root / "images"))
    job = partial(make_all, words, registered, folder / "results.json")
    with Forked(lambda _: job(), [], folder) as run:
        assert run.status(limit=1200) == 0, run.printed
        printed = dict(part.split("\n", 1) for part in run.printed.split("=== ")[1:])
    return Outcomes(folder, json.loads((folder / "results.json").read_text()), printed)


def run_python(*words: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(outcomes: Outcomes, name: str) -> None:
    index = list(MISTAKES).index(name)
    expected = MISTAKES[name][1].replace("ROOT", re.escape(str(outcomes.folder / str(index))))
    status, printed = outcomes.results[name]
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert (status, len(lines)) == (2, 1), printed
    assert re.fullmatch(f"error: {expected}", lines[0])
    assert "Traceback" not in printed + outcomes.printed[name]


def errors_of(process: subprocess.CompletedProcess[str]) -> list[str]:
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stdout + process.stderr
    return [line for line in process.stderr.splitlines() if line.startswith("error: ")]


@pytest.mark.slow
def test_an_unreadable_image_in_a_worker_process_is_one_line_too(
    outcomes: Outcomes, tmp_path: Path
) -> None:
    place = Place(tmp_path, small_dataset(tmp_path / "good"), tmp_path / "none")
    words = [*cut_image(place), "DATALOADER.NUM_WORKERS", "1"]
    (line,) = errors_of(run_python(ROOT / "train_net.py", *words))
    assert re.fullmatch(rf"error: {tmp_path}/data/images/cut\.png can't be read .*", line)
    # The log keeps it.
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"Training stopped: {line.removeprefix('error: ')}" in log


@pytest.mark.slow
def test_and_in_a_worker_of_one_of_two_processes(tmp_path: Path) -> None:
    place = Place(tmp_path, small_dataset(tmp_path / "good"), tmp_path / "none")
    words = [*cut_image(place), "--num-gpus", "2", "--dist-url", "auto"]
    words += ["DATALOADER.NUM_WORKERS", "2", "SOLVER.IMS_PER_BATCH", "2"]
    (line,) = errors_of(run_python(ROOT / "train_net.py", *words))
    assert re.fullmatch(rf"error: {tmp_path}/data/images/cut\.png can't be read .*", line)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_bad_images_are_skipped_and_counted_where_asked(tmp_path: Path, workers: int) -> None:
    folder = small_dataset(tmp_path / "data", images=4)
    (folder.root / "images" / "1.png").write_bytes(b"not an image")
    cfg = run_cfg(folder.name, tmp_path / "run", "SOLVER.MAX_ITER", 8)
    config = write_cfg(tmp_path / "config.yaml", cfg)
    words = ["--config-file", config, "--skip-bad-images", "DATALOADER.NUM_WORKERS", workers]
    with Forked(train_net, words, tmp_path) as run:
        assert run.status() == 0, run.printed
    log = (tmp_path / "run" / "log.txt").read_text()
    (count,) = re.findall(r"Unreadable training images were skipped (\d+) times\.", log)
    # 16 images were drawn, and this one is a quarter of them; it is tried once in a process.
    assert 1 <= int(count) <= 8
    if workers == 0:
        assert log.count("Skipped an unreadable training image: ") == int(count)
        assert "images/1.png can't be read as an image" in log
    assert (tmp_path / "run" / "model_final.pth").is_file()
