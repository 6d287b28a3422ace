"""The counting of waits: all that waits is seen, and nothing that doesn't."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from solo_family.ops.mask_nms import mask_nms
from solo_family.ops.matrix_nms import matrix_nms_decay

from . import waits as counting
from .waits import Waits, count_waits

WAIT: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "int": lambda x: int(x.sum()),
    "if": lambda x: 1 if (x > 0).any() else 2,
    "tolist": lambda x: x.tolist(),
    "tolist of one": lambda x: x.sum().tolist(),
    "cpu": lambda x: x.cpu(),
    "to cpu": lambda x: x.to("cpu"),
    "numpy": lambda x: x.numpy(),
    "numpy's array": lambda x: np.asarray(x),
    "nonzero": lambda x: x.nonzero(),
    "nonzero, by axis": lambda x: x.nonzero(as_tuple=True),
    "where, of one argument": lambda x: torch.where(x > 0),
    "boolean index": lambda x: x[x > 1],
    "boolean index, set": lambda x: x.clone().__setitem__(x > 1, x[:2]),
    "masked_select": lambda x: x.masked_select(x > 1),
    "unique": lambda x: x.unique(),
    "unique_consecutive": lambda x: x.unique_consecutive(),
    "bincount": lambda x: x.long().bincount(),
    "equal": lambda x: torch.equal(x, x + 1),
    "torchvision's NMS": lambda x: nms(x.expand(2, 4), x[:2], 0.5),
    "repeats on the device": lambda x: x.repeat_interleave(x.long()),
    "a number as an index": lambda x: x[x.argmax()],
    "a list as an index": lambda x: x[[0, 1]],
    "a slice's end": lambda x: x[: x.long().argmax()],
    "new_tensor": lambda x: x.new_tensor([1.0, 2.0]),
    "a list to a device": lambda x: torch.tensor([1.0], device=x.device),
}
GO_ON: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda x: (x * 2).sum() > 3,
    "sort": lambda x: x.sort(stable=True),
    "topk": lambda x: x.topk(2),
    "gather": lambda x: x[x.argsort()],
    "slices": lambda x: x[:2],
    "an integer": lambda x: x[0],
    "where": lambda x: torch.where(x > 1, x, 0),
    "masked_fill": lambda x: x.masked_fill(x > 1, 0),
    "new tensors": lambda x: (x.new_zeros(3), torch.full((2,), 1, device=x.device)),
    "a tensor on the host": lambda x: torch.tensor([1, 2]),
    "repeats with a known sum": lambda x: x.repeat_interleave(x.long(), output_size=6),
    "repeats from the host": lambda x: x.repeat_interleave(2),
    "other types": lambda x: x.to(torch.float64).to(x.device),
    "loops": lambda x: [part + 1 for part in x],
}


@pytest.mark.parametrize("name", WAIT)
def test_what_waits_is_counted_once(name: str) -> None:
    x = torch.arange(4.0)
    with count_waits() as waits:
        WAIT[name](x)
    assert waits.total == 1
    assert next(iter(waits.where)).startswith("test_waits.py:")


@pytest.mark.parametrize("name", GO_ON)
def test_what_does_not_wait_is_not_counted(name: str) -> None:
    x = torch.arange(4.0)
    with count_waits() as waits:
        GO_ON[name](x)
    assert waits.total == 0, waits.where


def test_lines_are_those_of_the_package() -> None:
    masks = torch.ones((3, 4, 4), dtype=torch.bool)
    with count_waits() as waits:
        mask_nms(masks, torch.zeros(3, dtype=torch.int64), torch.rand(3))
    assert waits.total >= 3
    assert all(where.startswith("ops/mask_") for where in waits.where)


def test_own_operators_are_not_looked_into() -> None:
    """Class by class on a CPU, matrix NMS reads how many each class has."""
    masks = torch.ones((3, 4, 4), dtype=torch.bool)
    with count_waits() as waits:
        matrix_nms_decay(
            masks, torch.zeros(3, dtype=torch.int64), torch.rand(3), "gaussian", 2.0, False
        )
    assert waits.total == 0


def test_nothing_is_left_behind() -> None:
    before = [getattr(torch.Tensor, name) for name in ("tolist", "cpu", "__getitem__")]
    with pytest.raises(RuntimeError), count_waits():
        raise RuntimeError
    assert [getattr(torch.Tensor, name) for name in ("tolist", "cpu", "__getitem__")] == before
    with count_waits() as waits:
        pass
    torch.ones(2).tolist()
    assert waits.total == 0


def test_explicit_waits_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those for a GPU that isn't there, for which a stub stands."""
    owners: tuple[Any, ...] = (torch.cuda, torch.cuda.Event, torch.cuda.Stream)
    for owner in owners:
        monkeypatch.setattr(owner, "synchronize", lambda *_: None)
    boxes, waits = torch.tensor([[0.0, 0, 1, 1]]), Waits()
    with counting._explicit(waits):
        for number, owner in enumerate(owners):
            assert waits.total == number
            owner.synchronize(None)
        assert nms(boxes, torch.ones(1), 0.5).tolist() == [0]
    torch.cuda.synchronize()
    assert waits.total == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_torch_says_what_waits() -> None:
    x = torch.arange(4.0, device="cuda")
    with count_waits("cuda") as waits:
        x.tolist()
        x[x > 1]
        x.sort()
        torch.cuda.current_stream().record_event().synchronize()
        torch.cuda.current_stream().synchronize()
        torch.cuda.synchronize()
        nms(x[None], x[:1], 0.5)
    assert waits.total == 6, waits.where


def test_tensors_are_no_sequences_afterwards() -> None:
    """As they would be if `Tensor.__getitem__` had been replaced for a while."""
    with count_waits():
        torch.arange(3)[[0, 2]]
    assert torch.as_tensor([torch.tensor(1), torch.tensor(2)]).tolist() == [1, 2]
