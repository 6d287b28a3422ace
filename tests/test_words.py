"""The package is written in the field's words: some others, which stood in it, do not come back."""

import re

import pytest

from .conftest import ROOT

PACKAGE = ROOT / "solo_family"
# A pattern for each word, and the word to use.
REPLACED = {
    r"\bmend(s|ed|ing|able)?\b": "fix",
    r"\bguess(es|ed|ing)?\b": "infer, or prediction",
    r"found_again|FOUND_AGAIN": "instance_agreement",
    r"\b[Tt]akes? note\b": "record",
    r"\b[Tt]ells? whether\b": "return whether",
    r'"""(Within it|Is the|Is one of)\b': "the imperative mood",
    r"\b[Ll]ets another\b": "the imperative mood",
    r"\bof one kind\b": "of the same kind",
    r"\bstands? (twice|more than once)\b": "duplicate",
    r"\banew\b": "again",
    r"\ball the same\b": "nevertheless",
    r"\bfor want of\b": "because there is no",
    r"\bshare[sd]? (\w+ )?out\b": "divide, or split",
    r"\bin one go\b": "at once",
    r"\bas (it is|they are) meant\b": "converted",
    r"\bspoil(s|t|ed)?\b": "damage",
    r"\bwhatever they provoke\b|\bwhatever a broken file provokes\b": "any error",
    r"\b(is|are) not there\b": "does not exist",
    r"\bso many-th\b|\bEvery so many\b": "every N",
}
PLACES = (
    *("checkpoint", "cli", "config", "data", "engine", "evaluation", "export", "predictor"),
    *sorted(path.name for path in PACKAGE.glob("*.py")),
    *("methods/__init__.py", "fetch"),
)


@pytest.mark.parametrize("place", PLACES)
def test_the_words_are_the_fields(place: str) -> None:
    path = PACKAGE / place
    wrong = [
        f"{file.relative_to(ROOT)}:{number}: {match[0]!r}: write {word!r}"
        for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        for pattern, word in REPLACED.items()
        if (match := re.search(pattern, line))
    ]
    assert wrong == []
