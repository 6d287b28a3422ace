"""Text is UTF-8 whatever the locale: who opens a file, or reads another program, says so."""

import ast
from collections.abc import Iterator

import pytest

from .conftest import ROOT

# Calls by their last name, and the position of their mode; text has to name its encoding.
_OPENS = {"open": 1, "fdopen": 1, "read_text": None, "write_text": None}
_PROGRAMS = {"run", "Popen", "check_output", "check_call"}
_TEMPORARY = {"NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile"}
_NO_TEXT = {"Image", "PathManager", "ZipFile", "file", "os", "wave", "tarfile", "zipfile"}


def calls(source: str) -> Iterator[tuple[int, str]]:
    """Yields line and name of each call that reads or writes text in the locale's encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        owner = getattr(getattr(node.func, "value", None), "id", "")
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if "encoding" in given:
            continue
        if name in ("read_text", "write_text"):
            if isinstance(node.func, ast.Name):
                continue  # data/formats/text_files.py:read_text, which reads UTF-8
            if not any(isinstance(a, ast.Constant) and a.value == "utf-8" for a in node.args):
                yield node.lineno, name
        elif name == "open" and owner not in _NO_TEXT:
            # open(path, mode) of Python; path.open(mode) of pathlib.
            place = 1 if isinstance(node.func, ast.Name) else 0
            mode = given.get("mode", node.args[place] if len(node.args) > place else None)
            text = "r" if mode is None else str(getattr(mode, "value", "b"))
            if "b" not in text:
                yield node.lineno, name
        elif name in _TEMPORARY:
            mode = given.get("mode", node.args[0] if node.args else None)
            if mode is not None and "b" not in getattr(mode, "value", "b"):
                yield node.lineno, name
        elif name in _PROGRAMS and {"text", "universal_newlines"} & set(given):
            yield node.lineno, name


FILES = [
    path
    for place in ("solo_family", "examples", "train_net.py", "setup.py")
    for path in ([ROOT / place] if place.endswith(".py") else sorted((ROOT / place).rglob("*.py")))
]


def test_no_text_is_in_the_encoding_of_the_locale() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in FILES
        for line, name in calls(path.read_text(encoding="utf-8"))
    ]
    assert found == []
    assert len(FILES) > 200


@pytest.mark.parametrize(
    ("source", "is_text"),
    [
        ("open(path)", True),
        ("open(path, 'w')", True),
        ("open(path, mode='a')", True),
        ("open(path, 'rb')", False),
        ("open(path, 'w', encoding='utf-8')", False),
        ("path.open()", True),
        ("path.open('wb')", False),
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text(text)", True),
        ("path.write_text(text, encoding='utf-8')", False),
        ("Image.open(path)", False),
        ("subprocess.run(words, text=True)", True),
        ("subprocess.run(words)", False),
        ("tempfile.NamedTemporaryFile('w')", True),
        ("tempfile.NamedTemporaryFile()", False),
    ],
)
def test_what_counts(source: str, is_text: bool) -> None:
    assert bool(list(calls(source))) == is_text
