"""A method is added by the steps of docs/adding_a_method.md alone, and keeps all promises."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=600
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


@pytest.mark.slow
def test_the_same_folder_works_outside_the_package(tmp_path: Path) -> None:
    """Also where detectron2 is imported before it."""
    for path, content in files_of_the_page().items():
        if path.startswith("solo_family/methods/"):
            place = tmp_path / path.removeprefix("solo_family/methods/")
            place.parent.mkdir(exist_ok=True)
            place.write_text(content)
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
