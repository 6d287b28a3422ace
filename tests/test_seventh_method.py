"""A method is added by the steps of docs/adding_a_method.md alone, and keeps all promises."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .coco_folder import small_dataset
from .conftest import ROOT

PAGE = ROOT / "docs" / "adding_a_method.md"
# What a contract test reads, beside the package and its configs.
TESTS = ("__init__.py", "conftest.py", "test_contract.py")


def files_of_the_page() -> dict[str, str]:
    """Return the page's files, by their path, which each names in its first line."""
    blocks = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE.read_text(), re.S)
    return {path: content for path, content in blocks if "/" in path}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the repository with the page's files; none of the copy's is changed."""
    root = tmp_path_factory.mktemp("clone")
    for folder in ("solo_family", "configs"):
        shutil.copytree(ROOT / folder, root / folder)  # with what is compiled, which takes long
    for name in (*(f"tests/{name}" for name in TESTS), "tests/methods/__init__.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    for tiny in (ROOT / "tests" / "methods").glob("*/tiny.py"):
        method = root / tiny.parent.relative_to(ROOT)
        method.mkdir()
        for name in ("__init__.py", "tiny.py"):
            shutil.copy(tiny.with_name(name), method)
    for name, content in files_of_the_page().items():
        assert not (root / name).exists(), f"{name} is not new"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def run(*words: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=600, **options
    )


# What else of the clone knows the method, as a test of its own.
KNOWN = """
from solo_family import METHODS, get_cfg, model_zoo
from solo_family.config import setup_cfg
from solo_family.errors import ConfigError
from solo_family.model_zoo.document import document

CONFIG = "Prototypes/prototypes_R50_1x.yaml"

def test_everything_that_loops_over_the_methods_knows_prototypes():
    assert "Prototypes" in METHODS
    assert get_cfg().MODEL.PROTOTYPES.NUM_PROTOTYPES == 32
    assert CONFIG in model_zoo.list()
    assert "## Prototypes\\n" in document()
    try:
        opts = ["MODEL.PROTOTYPES.NUM_PROTOTYPES", "0"]
        setup_cfg(model_zoo.get_config_file(CONFIG), opts)
    except ConfigError as error:
        assert "MODEL.PROTOTYPES.NUM_PROTOTYPES is 0" in str(error)
    else:
        raise AssertionError("not checked")
"""


@pytest.mark.slow
def test_it_keeps_what_every_method_promises_and_everything_knows_it(clone: Path) -> None:
    (clone / "tests" / "test_known.py").write_text(KNOWN)
    words = ("-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "no:xdist", "tests")
    process = run(*words, "-k", "Prototypes or prototypes", cwd=clone)
    assert process.returncode == 0, process.stdout
    passed = re.search(r"(\d+) passed", process.stdout)
    assert passed is not None
    # Two configs that build, and each promise once or more.
    assert int(passed[1]) >= 16
    assert "knows_prototypes PASSED" in process.stdout


def write_outside(folder: Path) -> None:
    """Write the page's files to a project beside the package, with the changes that it names."""
    places = {"solo_family/methods/": "", "configs/": "my_configs/"}
    for path, content in files_of_the_page().items():
        for own, place in places.items():
            if path.startswith(own):
                file = folder / place / path.removeprefix(own)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content)
    page = PAGE.read_text()
    form = r"# in prototypes/__init__.py\n(CONFIGS = .+)\n\.\.\.\n((?: .+\n)+)```"
    entries = re.search(form, page)
    assert entries is not None
    entry = folder / "prototypes" / "__init__.py"
    changed = re.sub(
        r" +base_config=.+\n +quickstart_config=.+\n", lambda _: entries[2], entry.read_text()
    )
    before = "from pathlib import Path\n\nfrom solo_family.registry"
    changed = changed.replace("from solo_family.registry", before)
    entry.write_text(changed.replace("register(\n", f"{entries[1]}\n\nregister(\n", 1))
    bases = re.findall(r'`_BASE_: "(solo_family://\S+)"` in\s+`(\S+)`', page)
    assert len(bases) == 2
    for base, config in bases:
        file = folder / "my_configs" / config
        file.write_text(re.sub(r'_BASE_: ".+"', f'_BASE_: "{base}"', file.read_text()))


# What is done with the method by commands that know it by SOLO_FAMILY_IMPORT alone.
COMMANDS = """
import sys
from solo_family.__main__ import main as verb
from solo_family.engine.main import main as train

data, root, sizes = sys.argv[1:]
opts = ["MODEL.TIMM.WEIGHTS", "", "MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "1"]
opts += ["DATASETS.TRAIN", f"('{data}',)", "DATASETS.TEST", f"('{data}',)", "OUTPUT_DIR", "run"]
config = "my_configs/quickstart/prototypes.yaml"
words = ["--method", "prototypes", "--minutes", "2", "--seconds-per-iteration", "1"]
steps = {
    "train": train(["--config-file", config, *opts, *sizes.split()]),
    "demo": verb(["demo", "--config-file", "run", "--input", f"{root}/images", "--output", "out"]),
    "export": verb(["export", "--config-file", "run", "--output", "exported"]),
    "init": verb(["init", "--train", data, *words, "--output", "own.yaml", "--anyway"]),
    "publish": verb(["publish", "run", "--output", "published"]),
}
print(steps)
assert not any(steps.values())
"""


@pytest.mark.slow
def test_every_command_works_with_a_method_outside_the_package(tmp_path: Path) -> None:
    write_outside(tmp_path)
    folder = small_dataset(tmp_path / "data")
    sizes = "INPUT.MIN_SIZE_TRAIN (64,) INPUT.MIN_SIZE_TEST 64 INPUT.MAX_SIZE_TRAIN 96"
    sizes += " INPUT.MAX_SIZE_TEST 96 DATALOADER.NUM_WORKERS 0 OUTPUT.REPORT False"
    words = ["-c", COMMANDS, folder.name, str(folder.root), sizes]
    paths = f"{ROOT}{os.pathsep}{tmp_path}"
    environment = {**os.environ, "SOLO_FAMILY_IMPORT": "prototypes", "PYTHONPATH": paths}
    process = run(*words, cwd=tmp_path, env=environment)
    assert process.returncode == 0, process.stdout + process.stderr
    recipe = (tmp_path / "own.yaml").read_text()
    assert "PROTOTYPES" in recipe
    # Nor does it have keys of InstanceFCN's, the last of the recipes that were measured.
    assert "INSTANCE_FCN" not in recipe
    card = (tmp_path / "published" / "README.md").read_text()
    assert "SOLO_FAMILY_IMPORT" in card


@pytest.mark.slow
def test_the_same_folder_works_outside_the_package(tmp_path: Path) -> None:
    """Also where detectron2 is imported before it."""
    write_outside(tmp_path)
    script = f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]
        import detectron2.modeling
        import prototypes
        from solo_family import get_cfg
        cfg = get_cfg()
        cfg.merge_from_file({str(ROOT / "configs/Base-COCO-ResNet-FPN.yaml")!r})
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "Prototypes", "meta"
        model = detectron2.modeling.build_model(cfg)
        assert type(model).__module__ == "prototypes.model"
    """
    process = run("-c", "\n".join(line[8:] for line in script.splitlines()), cwd=tmp_path)
    assert process.returncode == 0, process.stderr
