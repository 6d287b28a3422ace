"""Building, installing and importing, in real processes."""

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from detectron2.modeling import META_ARCH_REGISTRY

import solo_family
from solo_family.__main__ import VERBS, main

from .conftest import ROOT

SITE = Path(sysconfig.get_path("purelib"))


def run_python(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=300
    )


def copy_sources(target: Path) -> Path:
    """Copies what a build reads: a build in the clone itself would leave its folders there."""
    target.mkdir()
    for entry in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / entry, target)
    for entry in ("solo_family", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / entry, target / entry, ignore=ignored)
    return target


def test_setup_needs_no_torch() -> None:
    """pip builds in an environment that has setuptools and nothing else."""
    script = (
        "import sys, runpy\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.split('.')[0]\n"
        "        if top in ('torch', 'torchvision', 'detectron2', 'numpy', 'solo_family'):\n"
        "            raise ImportError(f'setup.py imports {name}')\n"
        "sys.meta_path.insert(0, Block())\n"
        "sys.argv = ['setup.py', '--version']\n"
        "runpy.run_path('setup.py', run_name='__main__')\n"
    )
    process = run_python("-c", script)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == solo_family.__version__


@pytest.mark.slow
def test_a_wheel_holds_the_configs_and_nothing_compiled(tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "sources")
    # As pip does it.
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    process = run_python("-c", build, cwd=sources)
    assert process.returncode == 0, process.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"solo_family-{solo_family.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {
        f"solo_family/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")
    }
    assert any(name.startswith("solo_family/configs/SOLOv2/") for name in configs)
    assert configs <= names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "solo_family").rglob("*.py")}
    assert modules <= names
    assert "solo_family/py.typed" in names
    assert not [name for name in names if name.endswith((".so", ".pyd", ".pyc", ".cpp"))]
    # Compiled where they are used.
    kernels = {str(path.relative_to(ROOT)) for path in (ROOT / "solo_family").rglob("*.cu*")}
    assert kernels
    assert kernels <= names
    assert not [name for name in names if name.startswith("tests")]

    # What is installed from it finds its configs in itself, not in the clone.
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from solo_family.model_zoo import get_config_file\n"
        "print(get_config_file('SOLOv2/solov2_R50_1x.yaml'))"
    )
    process = run_python("-c", script, str(installed), cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    expected = installed / "solo_family" / "configs" / "SOLOv2" / "solov2_R50_1x.yaml"
    assert Path(process.stdout.strip()) == expected


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        ("detectron2", "pip install --no-build-isolation 'git+https://github.com/"),
        pytest.param("cv2", "pip install opencv-python-headless", marks=pytest.mark.slow),
    ],
)
def test_a_missing_package_is_named_with_what_to_type(
    tmp_path: Path, missing: str, remedy: str
) -> None:
    """An interpreter whose site-packages are ours, but for one."""
    for entry in SITE.iterdir():
        if not entry.name.startswith((missing, "opencv")):
            (tmp_path / entry.name).symlink_to(entry)
    paths = [str(ROOT), str(tmp_path)]
    script = f"import sys; sys.path[:0] = {paths!r}; from solo_family import get_cfg"
    process = run_python("-S", "-c", script, cwd=tmp_path)
    assert process.returncode == 1
    last_line = process.stderr.splitlines()[-1]
    assert last_line.startswith("ImportError: solo_family needs")
    assert remedy in last_line


def test_importing_registers_the_meta_architectures() -> None:
    for name in solo_family.METHODS:
        assert META_ARCH_REGISTRY.get(name).__name__ == name
    assert "SOLOv2" in META_ARCH_REGISTRY


@pytest.mark.parametrize("words", [[], ["quick"], ["--no-such-flag"]])
def test_a_wrong_verb_shows_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert "usage: solo-family" in capsys.readouterr().err


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["quick"]])
def test_a_wrong_verb_from_the_shell(words: list[str]) -> None:
    process = run_python("-m", "solo_family", *words)
    assert process.returncode == 2
    assert "usage: solo-family" in process.stderr
    assert process.stderr.splitlines()[-1].startswith("solo-family: error:")


def test_the_tests_of_the_matrix_are_there() -> None:
    script = (ROOT / "tests" / "matrix.sh").read_text()
    core = re.search(r"^CORE=\((.*?)^\)", script, re.MULTILINE | re.DOTALL)
    listed = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {' '.join(core[1].split())}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(listed) > 20
    assert [path for path in listed if not (ROOT / path).exists()] == []


def test_the_top_folder_has_no_stray_files() -> None:
    """Pictures of a trial in the clone were once committed with the fix that they had shown."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no clone")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    top = {name for name in tracked if "/" not in name}
    texts = {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md"}
    assert top == texts | {".gitignore", "Makefile", "pyproject.toml", "setup.py", "train_net.py"}
