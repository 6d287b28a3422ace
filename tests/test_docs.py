"""What the documentation says of the code is so."""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

import solo_family
from solo_family import Predictor, model_zoo
from solo_family.predictor import Result
from solo_family.registry import METHODS

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
# "methods/solo/head.py:SOLOHead.forward": a file under solo_family/ and a name in it.
REFERENCE = re.compile(r"`([\w./-]+\.py):([A-Za-z_][\w.]*)`")
# What a paper numbers or names, and the table at the beginning of a method's page has.
EQUATIONS = {
    "solo": ["Eq. 1", "Eq. 2", "Eq. 3", "Eq. 4", "Eq. 5", "Label Assignment", "Maskness"],
    "decoupled_solo": ["Eq. 1", "Eq. 2", "Eq. 3", "Eq. 4", "Eq. 5"],
    "solov2": ["Eq. 1", "Eq. 2", "Eq. 3", "Eq. 4", "2.1.1", "2.1.2", "2.1.3", "s_j ← s_j decay_j"],
    "sparseinst": [
        "A = F_iam(X)",
        "z = Ā Xᵀ",
        "m_i = w_i · M",
        "C(i, k) = p_{i,c_k}^(1-α) DICE(m_i, t_k)^α",
        "DICE(m, t) =",
        "L = λ_c L_cls + L_mask + λ_s L_s",
        "L_mask = λ_dice L_dice + λ_pix L_pix",
        "p̃_i = √(p_i s_i)",
    ],
    "maskformer": [
        "L_pixel-cls(y, y_gt) =",
        "z = {(p_i, m_i)}",
        "-p_i(c_j) + L_mask(m_i, m_j)",
        "Eq. 1",
        "m_i[h, w] = sigmoid(",
        "p_i(c_i) m_i[h, w]",
        "Σ_i p_i(c) m_i[h, w]",
        "L_mask = λ_focal L_focal + λ_dice L_dice",
    ],
    "instancefcn": [
        "k² maps",
        "S(u, v) = map[b(u) k + b(v)]",
        "Σ_i [L(p_i, p_i*) + Σ_j L(S_i,j, S_i,j*)]",
        "600 x 1.5^{-4 ... 1}",
        "NMS at 0.8",
    ],
}


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


def test_links_to_a_heading_lead_to_it() -> None:
    for page in PAGES:
        for file, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#([^)\s]+)\)", page.read_text()):
            target = page.parent / file if file else page
            assert anchor in anchors(target.read_text()), f"{page.name}: {file}#{anchor}"


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?s)```.*?```", "", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_names_that_a_page_gives_with_their_file_exist() -> None:
    missing = {
        f"{page.name}: {path}:{name}"
        for page in PAGES
        for path, name in REFERENCE.findall(page.read_text())
        if name not in names_of(path)
    }
    assert not missing


@cache
def names_of(path: str) -> set[str]:
    """Return the names that a file of the package defines, as pages write them."""
    file = ROOT / "solo_family" / path
    return set(defined(ast.parse(file.read_text()))) if file.is_file() else set()


def defined(scope: ast.Module | ast.ClassDef) -> Iterator[str]:
    """Yield the functions, classes and variables of a scope; those of a class after its name."""
    for node in scope.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield node.name
            yield from (f"{node.name}.{name}" for name in defined(node))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_the_page_of_datasets_has_those_of_every_config() -> None:
    page = (ROOT / "docs" / "datasets.md").read_text()
    listed = set()
    for row in re.findall(r"(?m)^\| `(\w+(?:\{[\w,]+\}\w*)?)` \| `", page):
        name, _, rest = row.partition("{")
        choices, _, end = rest.partition("}")
        listed |= {f"{name}{choice}{end}" for choice in choices.split(",")}
    used = set()
    for path in (ROOT / "configs").rglob("*.yaml"):
        values = yaml.safe_load(re.sub(r"!!python\S+", "", path.read_text())).get("DATASETS", {})
        used |= {name for key in ("TRAIN", "TEST") for name in names_in(values.get(key, "()"))}
    assert len(used) > 10
    assert not used - listed


def names_in(value: str | list[str]) -> list[str]:
    """Return the names of a config's datasets that are not described in place."""
    names = ast.literal_eval(value) if isinstance(value, str) else value
    return [name for name in names if ":" not in name]


def test_every_method_has_a_page() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "methods").glob("*.md")}
    assert pages == set(EQUATIONS)
    assert len(pages) == len(METHODS)


@pytest.mark.parametrize("page", EQUATIONS)
def test_a_method_page_begins_with_the_equations_and_their_code(page: str) -> None:
    beginning, table = (ROOT / "docs" / "methods" / f"{page}.md").read_text().split("\n|", 1)
    assert beginning.count("\n## ") == 1
    header, _, *rows = f"|{table}".split("\n\n", 1)[0].splitlines()
    assert header == "| paper | symbol | code |"
    assert [row for row in rows if not REFERENCE.search(row)] == []
    for equation in EQUATIONS[page]:
        assert any(equation in row for row in rows), equation


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
