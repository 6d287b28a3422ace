"""Real published files, where there are some: `SOLO_FAMILY_WEIGHTS` is a folder of them."""

import os
from pathlib import Path

import pytest
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model

from solo_family.checkpoint.convert import config_of, convert, write
from solo_family.checkpoint.load import load_weights

from ..conftest import picture

FOLDER = Path(os.environ.get("SOLO_FAMILY_WEIGHTS") or "/nonexistent")
FILES = sorted(
    path for path in FOLDER.glob("**/*") if path.suffix in (".pth", ".pkl", ".safetensors")
)


@pytest.mark.slow
@pytest.mark.skipif(not FILES, reason="SOLO_FAMILY_WEIGHTS names no folder of checkpoints")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_published_file_converts_loads_and_runs(path: Path, tmp_path: Path) -> None:
    converted = convert(path)
    assert not converted.ignored
    if converted.source.backbone_only:
        return
    assert not converted.missing
    write(converted, tmp_path / "ours.pth")
    model = build_model(config_of({**converted.keys, "MODEL.DEVICE": "cpu"}))
    load_weights(DetectionCheckpointer(model), str(tmp_path / "ours.pth"), complete=True)
    (result,) = model.eval()([picture(320, 480)])
    assert result
