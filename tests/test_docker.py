"""The Dockerfile's steps, as far as they go without Docker and without a network."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from solo_family.__main__ import main as solo_family

from .conftest import ROOT
from .engine.test_environment import nobody
from .forked import Forked

FILE = ROOT / "examples" / "docker" / "Dockerfile"


def steps(instruction: str) -> list[str]:
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.M))
    return re.findall(rf"^{instruction} (.+)$", text, re.M)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the COPY steps take from a clone."""
    folder = tmp_path_factory.mktemp("image")
    for step in steps("COPY"):
        *sources, target = step.split()
        for source in sources:
            place = folder / source if target == "./" else folder / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
    return folder


def test_it_is_no_root_s_and_asks_for_no_shared_memory() -> None:
    (user,) = steps("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert "--shm-size is not needed" in FILE.read_text()


def test_what_is_copied_suffices_to_install(image: Path) -> None:
    *_, install = steps("RUN")
    (target,) = re.findall(r"make (\S+)", install)
    command = ["make", "--dry-run", f"PYTHON={sys.executable}", target]
    process = subprocess.run(command, cwd=image, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    for name in re.findall(r"requirements/\S+\.txt", process.stdout):
        assert (image / name).is_file()
    version = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=image, capture_output=True, text=True
    )
    assert version.returncode == 0, version.stderr


@pytest.mark.slow
def test_what_it_starts_is_there(image: Path) -> None:
    (entry,) = steps("ENTRYPOINT")
    assert entry == '["python", "-m", "solo_family"]'
    script = (
        f"import sys; sys.path.insert(0, {str(image)!r}); import solo_family.__main__ as m;"
        "assert m.__file__.startswith(sys.path[0]); sys.exit(m.main(['--help']))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=image, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert "doctor" in process.stdout
    for path in re.findall(r"/opt/solo_family/(\S+\.(?:py|yaml))", FILE.read_text()):
        assert (image / path).is_file()


def no_variables() -> None:
    # As in `nobody`, which may not read this user's libraries.
    for name in ("timm", "fileinput", "huggingface_hub.file_download"):
        importlib.import_module(name)
    nobody()
    for name in list(os.environ):
        if name not in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS"):
            del os.environ[name]


@pytest.mark.slow
def test_its_default_command_works_for_a_user_without_a_name() -> None:
    """`docker run -u 12345` sets few variables, and no home."""
    (command,) = steps("CMD")
    assert command == '["doctor"]'
    folder = Path(tempfile.mkdtemp(prefix="solo_family_"))
    folder.chmod(0o777)
    try:
        words = ["doctor", "--output", folder / "output"]
        with Forked(solo_family, words, folder, no_variables) as run:
            assert run.status() == 0, run.printed
        assert "All that is needed works" in run.printed
    finally:
        shutil.rmtree(folder)
