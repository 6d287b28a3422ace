"""docs/faq.md quotes messages as the code has them, and leaves none of a run's out."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT

PACKAGE = ROOT / "solo_family"
# yacs says it, not we; the mistakes' table reads it.
NOT_OURS = {"Type mismatch"}
ERRORS = {"ConfigError", "DataError", "OtherChannels", "TrainingError", "OutOfMemoryError"}
# What a run of train_net.py can end with. A folder's or a module's path.
OF_A_RUN = [
    *("config", "engine", "data", "pictures", "checkpoint/load.py", "faults.py"),
    *("evaluation/build.py", "evaluation/best_metric.py", "evaluation/preconditions.py"),
    *sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.glob("methods/*/config.py")),
]
OF_DRAWN_DATA = ("data/formats/synthetic.py", "data/formats/synthetic_crowd.py")


def text_of(node: ast.expr) -> str:
    """Returns a string expression with `…` for each of its values."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return "…"


def nodes(*places: str) -> Iterator[ast.AST]:
    for place in places:
        path = PACKAGE / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if str(file.relative_to(PACKAGE)) not in OF_DRAWN_DATA:
                yield from ast.walk(ast.parse(file.read_text()))


def headings() -> list[str]:
    return re.findall(r"^### `(.+)`$", Path(ROOT / "docs/faq.md").read_text(), re.M)


def squeezed(text: str) -> str:
    """Values side by side, or after a name's constant beginning, count as one."""
    return re.sub(r"…[….]*", "…", text)


def test_every_quoted_message_exists() -> None:
    texts = {squeezed(text_of(node)) for node in nodes("") if isinstance(node, ast.expr)}
    known = "\n".join(texts)
    missing = [h for h in headings() if squeezed(h) not in known and h not in NOT_OURS]
    assert missing == []
    assert len(headings()) == len(set(headings())) > 50


def raised() -> list[str]:
    return sorted(
        {
            squeezed(text_of(node.args[0]))
            for node in nodes(*OF_A_RUN)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS
        }
    )


@pytest.mark.parametrize("message", raised())
def test_every_message_of_a_run_is_explained(message: str) -> None:
    if not re.sub(r"[…: ]", "", message):
        return  # yacs' message after a file or key: "Type mismatch"
    assert any(squeezed(heading) in message for heading in headings())


def test_every_heading_has_a_text_below_it_in_its_own_section() -> None:
    """Headings in a row share the text below them; a section's last heading must have one."""
    page = Path(ROOT / "docs/faq.md").read_text()
    for section in re.split(r"^## ", page, flags=re.M)[1:]:
        last = section.rsplit("\n### ", 1)
        assert "\n" in last[-1].strip(), last[-1]


def test_headings_that_share_a_text_stand_close_together() -> None:
    """A blank line between two headings looks as if the first had no answer."""
    page = Path(ROOT / "docs/faq.md").read_text()
    assert re.findall(r"^(### .+)\n\n### ", page, flags=re.M) == []
