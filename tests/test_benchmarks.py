"""The benchmark beside other implementations: what is shared, what is compared, what is printed."""

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Instances
from torch import nn

from benchmarks import peer_training, peers
from benchmarks.fixed_weights import fill
from benchmarks.mmcv_lite import CompiledOps
from benchmarks.peer_models import Peer, registries_as_they_were
from benchmarks.side_by_side import agreement, interleaved_seconds

from .conftest import eager_to_find, tiny_model


def layers(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.ModuleDict({"body": nn.Linear(3, 4), "norm": nn.BatchNorm1d(4)})


def test_weights_follow_from_names_alone() -> None:
    one, other = layers(0), layers(1)
    weights = fill(one, {"body": -3.0})
    fill(other, {"body": -3.0})
    for name, value in other.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert weights["body.bias"].tolist() == [-3.0] * 4
    assert weights["body.weight"].unique().numel() == 12
    assert (weights["norm.running_var"] >= 1).all()


def test_runs_take_turns() -> None:
    order: list[str] = []
    runs = {name: (lambda name=name: order.append(name)) for name in ("peer", "ours")}
    interleaved_seconds(runs, "cpu", repeats=3)
    assert order[-6:] == ["peer", "ours"] * 3


def test_results_are_compared() -> None:
    def found(*scores: float) -> dict:
        return {"instances": Instances((2, 2), scores=torch.tensor(scores))}

    assert agreement([found(0.5, 0.9)], [found(0.9, 0.5)]) == "found 2/2; scores 0.0e+00"
    assert agreement([found(0.9)], [found(0.8, 0.5)]).startswith("found 1/2; scores 1.0e-01")
    assert agreement([found()], [found()]) == "found 0/0; scores 0.0e+00"
    maps: list[dict[str, Any]] = [
        {"panoptic_seg": (torch.tensor([[1, 2]]), [])},
        {"panoptic_seg": (torch.ones(1, 2), [])},
    ]
    assert agreement(maps[:1], maps[1:]) == "50.00 % of pixels"
    semantic = [{"sem_seg": torch.zeros(1, 2)}, {"sem_seg": torch.full((1, 2), 0.25)}]
    assert agreement(semantic[:1], semantic[1:]) == "2.5e-01"


def test_what_is_registered_inside_is_taken_back() -> None:
    from detectron2.modeling import META_ARCH_REGISTRY

    with registries_as_they_were():
        META_ARCH_REGISTRY._do_register("TheirModel", nn.Module)
    assert "TheirModel" not in META_ARCH_REGISTRY
    assert "SOLOv2" in META_ARCH_REGISTRY


def test_operators_that_are_not_compiled_are_stood_in_for() -> None:
    finder = CompiledOps()
    for name in ("mmcv.ops", "mmcv.ops.nms"):
        module = importlib.util.module_from_spec(finder.find_spec(name))
        assert isinstance(module.RoIAlign, type)
        assert not hasattr(module, "__file__")
    assert finder.find_spec("mmcv.video") is None


def write_pictures(folder: Path) -> None:
    for name in ("a.png", "b.png"):
        noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / name), noise)


@pytest.mark.slow
def test_a_pair_of_models_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path)
    peer = Peer("adelaidet", lambda *_: nn.Module(), "", test_size=(64, 96))
    peer = Peer(**{**vars(peer), "training": (2, (64, 96), 3)})
    model = eager_to_find(tiny_model())
    pairs = {"SOLOv2": (peer, {"peer": model, "ours": model})}
    monkeypatch.setattr(peers, "_build", lambda args: pairs)
    args = argparse.Namespace(
        **{"what": ["inference", "training"], "precisions": ["float32", "bfloat16"]},
        **{"input": tmp_path, "pictures": 2, "device": "cpu", "scale": 1.0, "repeats": 1},
        **{"ways": ["plain"], "training_ways": ["plain", "half-last"], "clock": "cpu"},
    )
    rows = list(peers._rows(args))
    assert [row["what"].split()[0] for row in rows] == ["ms"] * 2 + ["training"] * 4
    assert [row["way"] for row in rows[2:]] == ["plain", "half-last"] * 2
    assert not any("error" in row for row in rows)
    assert all(row["ratio"] == row["peer"] / row["ours"] for row in rows)
    assert rows[0]["agreement"].endswith("scores 0.0e+00")
    assert peers._table(rows).count("SOLOv2") == 6


def test_ways_that_ours_runs_in() -> None:
    model = eager_to_find(tiny_model())
    dtypes = {"float32": torch.bfloat16, "bfloat16": torch.bfloat16, "float16": torch.float16}
    for precision, dtype in dtypes.items():
        assert peers._in_a_way(model, "plain", precision) == (model, precision)
        graph, autocast = peers._in_a_way(model, "graph", precision)
        assert (graph.weight_dtype, autocast) == (torch.float32, precision)
        half, autocast = peers._in_a_way(model, "half-graph", precision)
        # Weights are cast once, and nothing in every layer.
        assert (half.weight_dtype, autocast) == (dtype, "float32")
        assert graph.graphs.enabled
        assert half.graphs.enabled
    assert not model.graphs.enabled


def test_a_row_for_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path)
    model = eager_to_find(tiny_model())
    peer = Peer(**{**vars(peers.PEERS["SOLOv2"]), "test_size": (64, 96)})
    pairs = {"SOLOv2": (peer, {"peer": model, "ours": model})}
    monkeypatch.setattr(peers, "_build", lambda args: pairs)
    args = argparse.Namespace(
        **{"what": ["inference"], "precisions": ["float32"], "ways": list(peers._WAYS)},
        **{"input": tmp_path, "pictures": 1, "device": "cpu", "scale": 1.0, "repeats": 1},
        clock="wall",
    )
    rows = list(peers._rows(args))
    assert [row["way"] for row in rows] == ["plain", "optimized", "auto", "graph", "half-graph"]
    assert not any("error" in row for row in rows)
    assert rows[2]["chosen"] in ("float32", "bfloat16")
    assert rows[0]["agreement"].endswith("scores 0.0e+00")
    assert float(rows[3]["agreement"].split()[-1]) < 1e-5  # optimised
    assert not rows[4]["agreement"].endswith("scores 0.0e+00")
    assert rows[3]["graphs"] == 0
    assert "half-graph" in peers._table(rows)


def test_a_failure_is_a_row() -> None:
    row: peers.Row = {}
    with peers._caught(row):
        raise RuntimeError("CUDA out of memory")
    assert row["error"] == "RuntimeError: CUDA out of memory"


def test_nothing_to_compare_with_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["peers", "--input", str(tmp_path)])
    with pytest.raises(SystemExit, match="give at least one of the folders"):
        peers.main()


def test_training_steps_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    step = peer_training.Step
    theirs = step([(0, 1, 2), (0, 3, 4)], {"loss_cate": 2.0}, {"a.weight": torch.tensor([4.0])})
    ours = step([(0, 1, 2), (0, 3, 5)], {"loss_class": 2.02}, {"b.weight": torch.tensor([3.0])})
    weights = {"a.weight": torch.zeros(1), "frozen": torch.zeros(2)}

    def convert(given: dict) -> Any:
        assert set(given) == set(weights)
        return argparse.Namespace(weights={"b.weight": given["a.weight"]})

    monkeypatch.setattr(peer_training, "convert_weights", convert)
    found = peer_training.differences(theirs, ours, weights)
    assert found == ("2 of 2", "1.0e-02", "2.5e-01", "0.0e+00")
    assert peer_training.differences(theirs, step(*theirs[:2], ours.gradients), weights)[:2] == (
        *("0 of 2", "0.0e+00"),
    )


def test_matches_of_their_layers_have_the_numbers_of_ours() -> None:
    found: list[tuple[int, ...]] = []
    count = peer_training._Counter(found)
    outputs = {"pred_logits": torch.zeros(2, 10, 3)}
    targets = [{"labels": torch.zeros(2)}, {"labels": torch.zeros(1)}]
    last = [(torch.tensor([4, 7]), torch.tensor([1, 0])), (torch.tensor([9]), torch.tensor([0]))]
    first = [(torch.tensor([1, 2]), torch.tensor([0, 1])), (torch.tensor([3]), torch.tensor([0]))]
    for matches in (last, first):
        count(None, (outputs, targets), matches)
    # The layer before the last has number 0; image 1 has predictions from 10 and objects from 2.
    assert found == [(0, 1, 0), (0, 2, 1), (0, 13, 2), (1, 4, 1), (1, 7, 0), (1, 19, 2)]
