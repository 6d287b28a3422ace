"""The lists of `key_names/`, and checkpoints of random weights under their names."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "key_names"
NAMES = sorted(path.stem for path in FOLDER.glob("*.txt"))


def slow_but(fast: Collection[str], names: Iterable[str]) -> list[Any]:
    """Returns names as a test's parameters, of which all but the fast ones are marked slow."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


def read_list(name: str) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a list by name."""
    lines = (FOLDER / f"{name}.txt").read_text().splitlines()
    pairs = [line.split() for line in lines if not line.startswith("#")]
    return {
        key: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for key, shape in pairs
    }


def random_weights(name: str, seed: int = 0) -> dict[str, Tensor]:
    """Returns weights of the names and shapes of a list that keep activations at a scale of 1."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, shape in read_list(name).items():
        noise = torch.randn(shape, generator=generator)
        if key.endswith("num_batches_tracked"):
            weights[key] = torch.tensor(7)
        elif key.endswith("relative_position_index"):
            weights[key] = torch.zeros(shape, dtype=torch.int64)
        elif key.endswith("running_var"):
            weights[key] = 1 + 0.2 * noise.abs()
        elif len(shape) > 1:
            fan_in = noise[0].numel()
            weights[key] = noise * (1.5 / fan_in) ** 0.5
        elif key.endswith("weight"):
            weights[key] = 1 + 0.1 * noise
        else:
            weights[key] = 0.1 * noise
    return weights


def empty_weights(name: str) -> dict[str, Tensor]:
    """Returns zeros of the names and shapes of a list, which take no memory."""
    return {key: torch.zeros(()).expand(shape) for key, shape in read_list(name).items()}


def save(path: Path, weights: dict[str, Tensor]) -> Path:
    torch.save({"meta": {"epoch": 12}, "state_dict": weights}, path)
    return path
