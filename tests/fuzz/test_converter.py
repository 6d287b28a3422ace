"""The converter on checkpoints with lost, renamed, reshaped and foreign entries."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from solo_family.checkpoint.convert import convert, write
from solo_family.errors import DataError, SoloFamilyError

from ..checkpoint.lists import NAMES, empty_weights
from .fuzzing import counts, fuzz

DTYPES = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.complex64]
OTHERS = [
    *(None, 3, "text", [], {}, (1, 2), np.zeros(3), np.float32(1), torch.tensor(1.0)),
    *(torch.zeros(0), torch.zeros((1, 0, 3)), torch.zeros((1, 1, 1, 1, 1)), torch.zeros(2**20)),
]
change = st.tuples(
    st.integers(0, 10**6),
    st.one_of(
        st.just("remove"),
        st.just("rename"),
        st.just("flatten"),
        st.sampled_from(DTYPES),
        st.sampled_from([(other,) for other in OTHERS]),
    ),
)


def changed(weights: dict[str, Any], changes: list[tuple[int, Any]]) -> dict[str, Any]:
    weights = dict(weights)
    for index, what in changes:
        name = list(weights)[index % len(weights)]
        value = weights.pop(name)
        if what == "rename":
            weights[name[::-1]] = value
        elif what == "flatten":
            weights[name] = value.flatten()[:5] if isinstance(value, torch.Tensor) else value
        elif isinstance(what, torch.dtype):
            weights[name] = value.to(what) if isinstance(value, torch.Tensor) else value
        elif isinstance(what, tuple):
            weights[name] = what[0]
    return weights


# What the fuzzing has found.
FOUND = [("per_pixel_baseline_plus_r50", [(0, "flatten"), (819794, "flatten")])]


@pytest.mark.parametrize(("name", "changes"), FOUND)
def test_what_was_found_is_refused(tmp_path: Path, name: str, changes: list[Any]) -> None:
    torch.save({"state_dict": changed(empty_weights(name), changes)}, tmp_path / "theirs.pth")
    with pytest.raises(DataError, match="shapes of its weights fit no known model"):
        convert(tmp_path / "theirs.pth")


@counts
def test_changed_checkpoints_are_converted_or_refused(tmp_path: Path, examples: int) -> None:
    def check(values: tuple[str, list[tuple[int, Any]], bool]) -> None:
        name, changes, lenient = values
        torch.save({"state_dict": changed(empty_weights(name), changes)}, tmp_path / "theirs.pth")
        with contextlib.suppress(SoloFamilyError):
            convert(tmp_path / "theirs.pth", allow_unknown=lenient, allow_missing=lenient)

    example = st.tuples(
        st.sampled_from(NAMES), st.lists(change, min_size=1, max_size=4), st.booleans()
    )
    fuzz(check, example, examples, tmp_path)


@counts
def test_files_of_any_bytes_are_refused(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "whole.pth"
    torch.save({"state_dict": {"a.weight": torch.zeros(3)}}, path)
    whole = path.read_bytes()

    def check(values: tuple[str, int, bytes, bool]) -> None:
        suffix, place, other, cut = values
        place %= len(whole)
        rest = b"" if cut else whole[place + len(other) :]
        file = tmp_path / f"theirs{suffix}"
        file.write_bytes(whole[:place] + other + rest)
        with contextlib.suppress(SoloFamilyError):
            write(convert(file), tmp_path / "ours.pth")

    suffix = st.sampled_from([".pth", ".pkl", ".safetensors", ""])
    example = st.tuples(suffix, st.integers(0, 10**6), st.binary(max_size=20), st.booleans())
    fuzz(check, example, examples, tmp_path)
