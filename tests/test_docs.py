"""What the documentation says of the code is so."""

import inspect
import re
from pathlib import Path

import pytest

import solo_family
from solo_family import Predictor, model_zoo
from solo_family.predictor import Result

from .conftest import ROOT

FOLDERS = ("benchmarks", "configs", "docs", "examples", "solo_family", "tests")
FILES = [
    str(path.relative_to(ROOT))
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.is_file()
]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Folders of other repositories, and of the reader's own.
OTHERS = ("detectron2/", "adet/", "mmdet/", "output/", "OUTPUT_DIR/", "my_")


def named_files(text: str) -> set[str]:
    """Return the Python, CUDA and yaml files that a text names with a folder."""
    names = re.findall(r"(?<![\w/.$<{*-])[\w]+(?:/[\w-]+)+\.(?:py|cuh?|yaml)\b", text)
    return {name for name in names if not name.startswith(OTHERS)}


def exists(name: str) -> bool:
    return any(path == name or path.endswith(f"/{name}") for path in FILES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    if page.name == "adding_a_method.md":
        text = re.sub(r"(?m)^.*[Pp]rototypes.*$", "", text)  # which are to be made
    assert not {name for name in named_files(text) if not exists(name)}


def test_files_that_comments_name_exist() -> None:
    named = re.compile(r"\bsolo_family/[\w/]+\.(?:py|cuh?|csv)\b")
    missing = {
        f"{path}: {name}"
        for path in FILES
        if path.endswith((".py", ".cu", ".cuh", ".yaml")) and "test_seventh" not in path
        for name in named.findall((ROOT / path).read_text())
        if not exists(name)
    }
    assert not missing


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#\s]+\.\w+)[)#]", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_python_api_has_every_public_name_as_it_is() -> None:
    page = (ROOT / "docs" / "python_api.md").read_text()
    for name in set(solo_family.__all__) - {"__version__"}:
        assert name in page, name
    for name in model_zoo.__all__:
        assert f".{name}(" in page, name
    for name, member in vars(Result).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, property)):
            assert re.search(rf"`[^`]*\b{name}\b", page), name
    arguments = parameters(Predictor)
    assert f"`Predictor({', '.join(arguments)})`" in page


def parameters(function: object) -> list[str]:
    """Return the parameters of a call as a page writes them: names and defaults, no types."""
    words = []
    keyword_only = False
    for parameter in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            words.append("*")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        words.append(f"{parameter.name}{default}")
    return words
