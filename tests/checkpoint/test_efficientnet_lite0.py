"""Bundled ImageNet weights under timm's names, against the same weights converted elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

from solo_family.checkpoint.efficientnet_lite0 import PACKAGE, to_timm_names, write_timm_weights

from ..conftest import ROOT

pytest.importorskip(PACKAGE)


def test_equals_the_reference_and_loads_strictly(tmp_path: Path, data_root: Path) -> None:
    path = tmp_path / "new folder" / "weights.pth"
    assert write_timm_weights(path) == path
    assert [p.name for p in path.parent.iterdir()] == ["weights.pth"]
    weights = torch.load(path, weights_only=True)
    reference = torch.load(
        data_root / "weights" / "tf_efficientnet_lite0_timm_names.pth", weights_only=True
    )
    assert set(weights) == set(reference)
    for key, value in reference.items():
        assert torch.equal(weights[key], value), key
    timm.create_model("tf_efficientnet_lite0").load_state_dict(weights)


def test_a_checkpoint_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"mine")
    write_timm_weights(str(path))
    assert path.read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    """A process that may write a megabyte, as on a full disk."""
    script = (
        "import resource, signal, sys\n"
        "from solo_family.checkpoint.efficientnet_lite0 import write_timm_weights\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
        "write_timm_weights(sys.argv[1])\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "weights.pth")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 1, process.stderr
    assert "in write_timm_weights" in process.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_weight_is_not_passed_over() -> None:
    with pytest.raises(KeyError, match="_swish"):
        to_timm_names({"_blocks.3._swish.weight": torch.zeros(1)})
