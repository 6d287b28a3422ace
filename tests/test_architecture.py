"""Which part of the package may import which, and that no part imports in a circle.

`docs/architecture.md` shows the floors in words.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT

PACKAGE = ROOT / "solo_family"
# From the bottom: a part imports only parts of its own floor and of those before it.
FLOORS = (
    (
        "class_maps",
        "console",
        "errors",
        "files",
        "heap",
        "lifetime",
        "own_configs",
        "progress",
        "requirements",
        "segments",
        "starting",
        "stopping",
        "threads",
        "version",
    ),
    ("fetch", "ops", "pictures", "registry"),
    ("detectron2_patches", "weight_files"),
    ("modeling",),
    ("config", "faults"),
    ("checkpoint", "data"),
    ("methods", "tiling"),
    ("evaluation", "export", "model_zoo"),
    ("report",),
    ("engine",),
    ("saving",),
    ("predictor", "publishing", "recipe"),
    ("cli", "__main__"),
)
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
# 250 are to be aimed at.
MAX_LINES = 320


def module_name(path: Path) -> str:
    """Return the name below `solo_family`, "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports(name: str, *, at_import: bool = False) -> Iterator[str]:
    """Yield the modules below `solo_family` that a module's import statements name.

    Args:
        name: of the module.
        at_import: only those that run while it is imported.
    """
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    package = [part for part in package if part]
    tree = ast.parse(path.read_text())
    for node in at_import_nodes(tree) if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                alias.name.partition(".")[2]
                for alias in node.names
                if alias.name.startswith("solo_family")
            )
        if not isinstance(node, ast.ImportFrom):
            continue
        module = (node.module or "").split(".") if node.module else []
        if node.level:
            base = package[: len(package) - node.level + 1] + module
        elif module and module[0] == "solo_family":
            base = module[1:]
        else:
            continue
        for alias in node.names:
            full = ".".join([*base, alias.name])
            yield full if full in MODULES else ".".join(base)


def at_import_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes outside functions and `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from at_import_nodes(node)


def test_every_part_has_a_floor() -> None:
    parts = {name.partition(".")[0] for name in MODULES} - {""}
    assert parts == set(FLOOR)


@pytest.mark.parametrize("part", sorted(FLOOR))
def test_imports_run_one_way(part: str) -> None:
    for name in MODULES:
        if name.partition(".")[0] == part:
            for other in imports(name):
                target = other.partition(".")[0]
                if target:
                    assert FLOOR[target] <= FLOOR[part], f"{name} imports {other}"


def test_parts_of_one_floor_do_not_import_one_another() -> None:
    """But for `config`, whose rules `faults` uses."""
    for name in MODULES:
        part = name.partition(".")[0]
        for other in imports(name):
            target = other.partition(".")[0]
            if part and target and target != part and (part, target) != ("faults", "config"):
                assert FLOOR[target] < FLOOR[part], f"{name} imports {other}"


def test_no_method_imports_another() -> None:
    for name in MODULES:
        if name.startswith("methods."):
            method = name.split(".")[1]
            for other in imports(name):
                if other.startswith("methods."):
                    assert other.split(".")[1] in (method, "grid"), f"{name} imports {other}"


def test_nothing_imports_a_method_by_name_but_what_belongs_to_it() -> None:
    """Everything else asks the registry, so that a new method needs no line there."""
    allowed = ("methods", "cli", "predictor", "__main__")
    for name in MODULES:
        if name and name.partition(".")[0] not in allowed:
            for other in imports(name):
                assert not other.startswith("methods."), f"{name} imports {other}"


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {name: set(imports(name, at_import=True)) - {name, ""} for name in MODULES}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_files_are_small() -> None:
    for name, path in MODULES.items():
        lines = len(path.read_text().splitlines())
        assert lines <= MAX_LINES, f"{name} has {lines} lines"


OPS_ALONE = """
import sys
for name in ("detectron2", "timm", "scipy", "cv2", "fvcore", "pycocotools"):
    sys.modules[name] = None  # as if it was not installed
import importlib, pkgutil
import torch
import solo_family.ops
for module in pkgutil.iter_modules(solo_family.ops.__path__):
    if module.name not in sys.argv[1:]:
        importlib.import_module(f"solo_family.ops.{module.name}")
from solo_family.ops.matrix_nms import matrix_nms
masks = torch.zeros(2, 4, 4, dtype=torch.bool)
masks[:, :2] = True
order, scores = matrix_nms(masks, torch.zeros(2, dtype=torch.long), torch.tensor([0.9, 0.8]))
assert order.tolist() == [0, 1]
"""


@pytest.mark.slow
def test_operators_need_torch_alone() -> None:
    """Kernels in Triton's language need Triton, which torch brings on a GPU's machine."""
    kernels = [path.stem for path in (PACKAGE / "ops").glob("*_triton.py")]
    process = subprocess.run(
        [sys.executable, "-c", OPS_ALONE, *kernels],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
