"""What a file from a stranger can't do: run code, name files elsewhere, reach the network."""

import ast
import io
import json
import os
import pickle
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from safetensors.torch import save_file
from torch import nn

from solo_family import METHODS
from solo_family.__main__ import main as solo_family
from solo_family.config import get_cfg
from solo_family.data.formats.register import check_datasets
from solo_family.detectron2_patches import read_checkpoints_safely
from solo_family.engine.main import main as train_net
from solo_family.errors import DataError

from .coco_folder import CocoFolder, noise, rectangle, run_cfg, small_dataset, write_cfg
from .conftest import ROOT, picture, tiny_model
from .data.segments import write_panoptic
from .forked import Forked

PACKAGE = ROOT / "solo_family"


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Yields the file, the dotted name and the node of every call in the package."""
    for path in sorted([*PACKAGE.rglob("*.py"), ROOT / "train_net.py"]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield str(path.relative_to(ROOT)), ast.unparse(node.func), node


def keyword(node: ast.Call, name: str) -> Any:
    values = [word.value for word in node.keywords if word.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def test_nothing_in_the_package_unpickles_or_runs_text() -> None:
    bad = []
    for file, name, node in calls():
        last = name.split(".")[-1]
        if name == "torch.load" and keyword(node, "weights_only") is not True:
            bad.append((file, name))
        if name in ("np.load", "numpy.load") and keyword(node, "allow_pickle"):
            bad.append((file, name))
        # What one process of a run sends another is not of a file.
        if file.endswith("data/loading/wire.py"):
            continue
        if name.split(".")[0] in ("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"):
            bad += [(file, name)] * (last in ("load", "loads", "Unpickler", "open"))
        # Installed code of detectron2, as Python's own import compiles it.
        if (file, name) == ("solo_family/detectron2_patches.py", "compile"):
            continue
        if name in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"):
            bad.append((file, name))
        if name.startswith("yaml.") and "load" in last and not last.startswith("safe_load"):
            bad.append((file, name))
        if keyword(node, "shell") or keyword(node, "allow_unsafe"):
            bad.append((file, name))
    assert bad == []


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._path,)


class TrapInTensor(Trap):
    """A tensor's numbers in a pickle are a file of torch's, in which a trap may be."""

    def __reduce__(self) -> tuple[Any, ...]:
        buffer = io.BytesIO()
        torch.save(Trap(Path(self._path)), buffer)
        return torch.storage._load_from_bytes, (buffer.getvalue(),)


def write_trap(path: Path, trap: Path, how: str) -> str:
    kind = TrapInTensor if how == "tensor" else Trap
    content = {"model": {"a": kind(trap)}, "__author__": "a stranger", "model_state": {}}
    if how in ("pickle", "tensor"):
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    return str(path)


TRAPS = [
    *(
        (".pkl", "pickle"),
        (".pkl", "tensor"),
        (".pth", "zip"),
        (".pth", "legacy"),
        (".pth", "pickle"),
    ),
    *((".pyth", "zip"), (".safetensors", "pickle"), ("", "zip")),
]


def test_the_traps_would_spring(tmp_path: Path) -> None:
    torch.load(write_trap(tmp_path / "a.pth", tmp_path / "sprung", "zip"), weights_only=False)
    assert (tmp_path / "sprung").is_dir()
    path = write_trap(tmp_path / "a.pkl", tmp_path / "sprung_too", "tensor")
    pickle.loads(Path(path).read_bytes())
    assert (tmp_path / "sprung_too").is_dir()


def test_what_is_refused_is_said_with_the_file_and_the_remedy(tmp_path: Path) -> None:
    path = write_trap(tmp_path / "weights.pkl", tmp_path / "sprung", "pickle")
    with pytest.raises(pickle.UnpicklingError, match=rf"mkdir is not allowed in {path}: .* trust"):
        DetectionCheckpointer(nn.Linear(1, 1)).load(path)


@pytest.mark.parametrize(("suffix", "how"), TRAPS)
def test_detectron2s_own_checkpointer_runs_no_code(tmp_path: Path, suffix: str, how: str) -> None:
    path = write_trap(tmp_path / f"weights{suffix}", tmp_path / "sprung", how)
    with pytest.raises(Exception, match=r"mkdir|header|Weights only load failed"):
        DetectionCheckpointer(nn.Linear(1, 1)).load(path)
    assert not (tmp_path / "sprung").exists()


def config(root: Path, *opts: Any) -> list[str]:
    cfg = run_cfg(small_dataset(root / "data").name, root / "run", "SOLVER.MAX_ITER", 1, *opts)
    return ["--config-file", str(write_cfg(root / "config.yaml", cfg))]


def error_of(capsys: pytest.CaptureFixture[str], main: Callable[..., int], words: Any) -> str:
    assert main([str(word) for word in words]) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err + printed.out
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("how", ["train", "evaluate", "resume", "demo", "convert", "timm", "vgg"])
def test_a_checkpoint_that_names_code_is_refused_in_one_line(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix = ".pkl" if how in ("train", "demo") else ".pth"
    kind = "pickle" if suffix == ".pkl" else "zip"
    weights = write_trap(tmp_path / f"weights{suffix}", tmp_path / "sprung", kind)
    words = config(tmp_path)
    if how == "resume":
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "last_checkpoint").write_text(f"../weights{suffix}")
    main = solo_family if how in ("demo", "convert") else train_net
    command = {
        "train": [*words, "MODEL.WEIGHTS", weights],
        "evaluate": [*words, "--eval-only", "MODEL.WEIGHTS", weights],
        "resume": [*words, "--resume"],
        "demo": [
            *("demo", *words, "--input", tmp_path / "data/images/0.png", "--output"),
            *(tmp_path / "out", "--opts", "MODEL.WEIGHTS", weights),
        ],
        "convert": ["convert", weights, tmp_path / "ours.pth"],
        "timm": [
            *(*words, "MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME"),
            *("resnet10t", "MODEL.TIMM.WEIGHTS", weights),
        ],
        "vgg": [
            *(*words, "MODEL.BACKBONE.NAME", "build_vgg_atrous_backbone"),
            *("MODEL.META_ARCHITECTURE", "InstanceFCN", "MODEL.INSTANCE_FCN.IN_FEATURE", "conv5"),
            *("MODEL.VGG.WEIGHTS", weights),
        ],
    }[how]
    line = error_of(capsys, main, command)
    assert "can't be read safely" in line
    assert "mkdir" in line
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "text",
    [
        "MODEL: {{WEIGHTS: !!python/object/apply:os.mkdir ['{trap}']}}",
        "SOLVER: {{BASE_LR: !!python/object/apply:os.mkdir ['{trap}']}}",
        "SOLVER: {{BASE_LR: \"__import__('os').mkdir('{trap}')\"}}",
        "_BASE_: other.yaml",
    ],
)
def test_a_config_runs_no_code(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trap = tmp_path / "sprung"
    (tmp_path / "other.yaml").write_text(
        f"MODEL: {{WEIGHTS: !!python/object/new:os.mkdir ['{trap}']}}"
    )
    (tmp_path / "config.yaml").write_text(text.format(trap=trap))
    error_of(capsys, train_net, ["--config-file", tmp_path / "config.yaml"])
    assert not trap.exists()


def test_neither_do_values_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = f"__import__('os').mkdir('{tmp_path}/sprung')"
    for key in ("SOLVER.BASE_LR", "DATASETS.TRAIN", "MODEL.WEIGHTS"):
        error_of(capsys, train_net, [*config(tmp_path / key), key, code])
    assert not (tmp_path / "sprung").exists()
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.WEIGHTS", code])
    assert code == cfg.MODEL.WEIGHTS


def test_files_of_proposals_which_detectron2_unpickles_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trap = write_trap(tmp_path / "proposals.pkl", tmp_path / "sprung", "pickle")
    opts = ["MODEL.LOAD_PROPOSALS", "True", "DATASETS.PROPOSAL_FILES_TRAIN", f"('{trap}',)"]
    line = error_of(capsys, train_net, [*config(tmp_path), *opts])
    assert "MODEL.LOAD_PROPOSALS is True" in line
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("absolute", [False, True])
def test_an_annotation_file_names_no_image_outside_its_folder(
    tmp_path: Path, absolute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.png"
    noise(48, 64).save(secret)
    folder = CocoFolder(tmp_path / "data", {1: "cat"})
    folder.add("0.png", noise(48, 64), [rectangle(5, 5, 20, 20)])
    folder.content["images"][0]["file_name"] = str(secret) if absolute else "../../secret.png"
    name = folder.write()
    with pytest.raises(DataError, match=rf"secret.png, which is outside {folder.root}/images\."):
        check_datasets([name])
    monkeypatch.setenv("SOLO_FAMILY_ALLOW_OUTSIDE", "1")
    check_datasets([name])


@pytest.mark.parametrize("part", ["images", "annotations"])
def test_nor_does_a_panoptic_one(tmp_path: Path, part: str) -> None:
    name = write_panoptic(tmp_path)[0]
    path = tmp_path / "panoptic.json"
    content = json.loads(path.read_text())
    content[part][1]["file_name"] = "../elsewhere/9.png"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"names \.\./elsewhere/9\.png, which is outside"):
        check_datasets([name])


class OlderCheckpointer:
    """As that of detectron2 0.6, whose `_load_file` reads every other file with `torch.load`."""

    def _load_file(self, path: str) -> Any:
        return torch.load(path, weights_only=False)


def test_an_older_checkpointer_runs_no_code_either(tmp_path: Path) -> None:
    package = SimpleNamespace(
        DetectionCheckpointer=OlderCheckpointer, detection_checkpoint=SimpleNamespace()
    )
    read_checkpoints_safely(package)
    weights = {"a": torch.ones(2)}
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        content = OlderCheckpointer()._load_file(str(tmp_path / name))
        assert torch.equal(content["model"]["a"], weights["a"])
    path = write_trap(tmp_path / "weights.pth", tmp_path / "sprung", "zip")
    with pytest.raises(Exception, match="mkdir"):
        OlderCheckpointer()._load_file(path)
    assert not (tmp_path / "sprung").exists()


def without_a_network() -> None:
    """Have this process fail where it asks for one."""

    def refuse(event: str, arguments: object) -> None:
        if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"):
            raise RuntimeError(f"{event}: {arguments}")

    sys.addaudithook(refuse)
    with pytest.raises(RuntimeError, match=r"urllib\.Request"):
        urllib.request.urlopen("http://127.0.0.1:9")


def build_train_and_infer(methods: list[str]) -> int:
    for method in methods:
        model = tiny_model(method)
        losses = model([picture(seed=1), picture(seed=2)])
        sum(losses.values()).backward()
        torch.optim.SGD(model.parameters(), 1e-3).step()
        model.eval()
        assert len(model([{"image": picture()["image"]}])) == 1
        print(method)
    return 0


def test_no_network_is_used_to_build_train_and_infer(tmp_path: Path) -> None:
    """Nor to import anything: see tests/test_portable.py."""
    with Forked(build_train_and_infer, list(METHODS), tmp_path, without_a_network) as process:
        assert process.status() == 0, process.printed
    assert process.printed.split() == list(METHODS)
