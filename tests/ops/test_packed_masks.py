import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from solo_family.ops import pack_masks, packed_masks, unpack_masks
from solo_family.ops.decode_masks import _decode_masks, decode_masks

operator = importlib.import_module("solo_family.ops.pack_masks")


@st.composite
def bool_masks(draw: st.DrawFn) -> np.ndarray:
    shape = (draw(st.integers(0, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    return draw(hnp.arrays(bool, shape))


@settings(deadline=None, max_examples=100, derandomize=True)
@given(bool_masks())
def test_unpacking_undoes_packing(array: np.ndarray) -> None:
    masks = torch.from_numpy(array)
    packed = pack_masks(masks)
    size = (array.shape[1], array.shape[2])
    assert packed.words.dtype == torch.int32
    assert packed.words.shape == (len(array), -(-size[0] * size[1] // 32))
    assert torch.equal(unpack_masks(packed.words, size), masks)
    assert packed.areas.tolist() == [int(mask.sum()) for mask in array]
    assert packed.maskness.tolist() == [float(mask.any()) for mask in array]


def test_the_least_significant_bit_is_the_first_pixel() -> None:
    masks = torch.zeros(1, 5, 8, dtype=torch.bool)
    masks[0, 0, [0, 3]] = True
    masks[0, 3, 7] = True  # pixel 31, the sign of the first word
    masks[0, 4, 1] = True
    assert pack_masks(masks).words.tolist() == [[1 + 8 - 2**31, 2]]


@pytest.mark.parametrize("logits", [False, True])
def test_maskness_is_the_mean_probability_inside(logits: bool) -> None:
    values = torch.tensor([[[0.6, 0.8, 0.1]], [[0.5, 0.2, 0.3]]])
    packed = pack_masks(values.logit() if logits else values, 0.0 if logits else 0.5, logits=logits)
    assert packed.areas.tolist() == [2, 0]
    assert packed.maskness.tolist() == pytest.approx([0.7, 0.0])


def test_chunks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.rand(9, 5, 7, generator=torch.Generator().manual_seed(0))
    whole = pack_masks(values, 0.5)
    monkeypatch.setattr(operator, "_CHUNK_BYTES", 4 * 35 * 2)
    for part, expected in zip(pack_masks(values, 0.5), whole):
        assert torch.equal(part, expected)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_tracer_records_unpacking() -> None:
    masks = torch.rand(4, 9, 11, generator=torch.Generator().manual_seed(0)) > 0.5
    words = pack_masks(masks).words
    traced = torch.jit.trace(lambda some: unpack_masks(some, (9, 11)), words)
    assert torch.equal(traced(words), masks)
    assert torch.equal(traced(words.flip(0)), masks.flip(0))


def test_without_numpy_the_bits_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another device than a CPU does without Triton, here on a CPU."""
    masks = torch.rand(4, 9, 11, generator=torch.Generator().manual_seed(0)) > 0.5
    words = pack_masks(masks).words
    monkeypatch.setattr(packed_masks, "_has_numpy", lambda tensor: False)
    assert torch.equal(pack_masks(masks).words, words)
    assert torch.equal(unpack_masks(words, (9, 11)), masks)


def soft(kernels: Tensor, features: Tensor) -> Tensor:
    return torch.einsum("ne,ehw->nhw", kernels.double(), features.double()).sigmoid()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_decoding_equals_soft_masks(count: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    kernels = torch.randn(count, 6, generator=generator).to(dtype)
    features = torch.randn(6, 9, 13, generator=generator).to(dtype)
    expected = soft(kernels, features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        packed = decode_masks(kernels, features, 0.4)
    assert torch.equal(unpack_masks(packed.words, (9, 13)), expected > 0.4)
    inside = expected > 0.4
    mean = (expected * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    torch.testing.assert_close(packed.maskness, mean.float(), rtol=0, atol=1e-6)


def test_the_operators_declare_their_outputs() -> None:
    utils = ("test_schema", "test_faketensor")
    torch.library.opcheck(operator._pack_masks, (torch.rand(3, 5, 7), 0.5, False), test_utils=utils)
    torch.library.opcheck(
        _decode_masks, (torch.rand(3, 4), torch.rand(4, 5, 7), 0.5), test_utils=utils
    )
