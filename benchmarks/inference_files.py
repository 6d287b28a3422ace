"""How many files of the package one inference passes through: python -m benchmarks.inference_files.

A tiny model of each method segments one small picture on the CPU, as the tests do. Counted are the
files that the calls enter, and the changes from one file to another between two calls that follow
one another. `--list METHOD` prints the files with how often each is entered.
"""

import argparse
import os
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import solo_family
from solo_family.registry import METHODS

PACKAGE = f"{Path(solo_family.__file__).parent}{os.sep}"


def entered_files(method: str) -> list[str]:
    """Return the package's files in the order in which calls of one inference enter them."""
    from tests.conftest import eager_to_find, picture, tiny_model

    model = eager_to_find(tiny_model(method), True)
    image = picture()
    with torch.no_grad():
        model([image])  # what is remembered from the first time on
    files: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            files.append(frame.f_code.co_filename.removeprefix(PACKAGE))

    with torch.no_grad():
        sys.setprofile(note)
        try:
            model([image])
        finally:
            sys.setprofile(None)
    return [file for file, _ in groupby(files)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", metavar="METHOD", choices=METHODS)
    asked = parser.parse_args().list
    if asked:
        for file, count in Counter(entered_files(asked)).most_common():
            print(f"{count:4} {file}")
        return
    print("| method | files | changes |\n|---|---|---|")
    for method in METHODS:
        files = entered_files(method)
        print(f"| {method} | {len(set(files))} | {len(files) - 1} |")


if __name__ == "__main__":
    main()
