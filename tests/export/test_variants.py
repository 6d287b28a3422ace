"""Other heads than the first of their method: exported for any size, too."""

from pathlib import Path

import pytest

from solo_family.export.parity import prediction_error
from solo_family.export.runtime import ExportedModel

from .exporting import export, picture_of

_DECODER = "MODEL.SPARSE_INST.DECODER."
_PIXEL_DECODER = "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME"


@pytest.mark.parametrize(
    ("method", "opts"),
    [
        ("SparseInst", [f"{_DECODER}NAME", "GroupIAMSoftDecoder"]),
        pytest.param("SparseInst", [f"{_DECODER}NAME", "BaseIAMDecoder"], marks=pytest.mark.slow),
        pytest.param(
            "SparseInst", [f"{_DECODER}NAME", "CrossAttentionDecoder"], marks=pytest.mark.slow
        ),
        pytest.param(
            "MaskFormer",
            [_PIXEL_DECODER, "TransformerEncoderPixelDecoder"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_variant_finds_what_the_model_finds(method: str, opts: list, tmp_path: Path) -> None:
    predictor = export(method, tmp_path / "exported", opts)
    exported = ExportedModel(tmp_path / "exported")
    for seed, size in enumerate([(64, 96), (130, 70)]):
        picture = picture_of(size, seed)
        assert prediction_error(predictor(picture), exported(picture)) < 1e-3
