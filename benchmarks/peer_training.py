"""Targets, matching, losses and gradients of ours beside other implementations', as numbers.

    python -m benchmarks.peer_training --adelaidet DIR --sparseinst DIR --maskformer DIR --mmdet DIR

The folders are those of `benchmarks.peers`. Both models of a pair have the same weights and take
their features, the same to the bit, from the other one's backbone. The batches are noise with the
masks of random ellipses, of several sizes and numbers of objects, also none. Each line has the
greatest differences in one batch: how many targets or matches differ of how many; of losses and
gradients the difference relative to the greatest value of the other one's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tabulate import tabulate
from torch import Tensor, nn

from .fixed_weights import fill
from .inputs import training_picture, with_mask_tensors
from .peer_models import (
    PEERS,
    Peer,
    build_ours,
    convert_weights,
    registries_as_they_were,
)

Size = tuple[int, int]
# The sizes of a batch's images, and how many objects each has.
BATCHES: list[list[tuple[Size, int]]] = [
    [((128, 160), 1), ((128, 160), 7)],
    [((192, 256), 3), ((160, 224), 12)],
    [((256, 320), 25), ((192, 320), 0)],
    [((128, 192), 0), ((128, 160), 0)],
]
_COLUMNS = (
    *("model", "objects", "targets or matches", "losses"),
    *("gradients of weights", "gradients of features"),
)


# A pyramid's levels, and how the gradients of features are named.
_LEVELS = ("p2", "p3", "p4", "p5", "p6")
_FEATURES = tuple(f"feature {number}" for number in range(5))


class Step(NamedTuple):
    """What one training step computes.

    Attributes:
        assigned: targets of cells, or pairs of predictions and objects, as sorted tuples.
        losses: by name.
        gradients: by the parameter's name.
    """

    assigned: list[tuple[int, ...]]
    losses: dict[str, float]
    gradients: dict[str, Tensor]


def main() -> None:
    """Compare what the flags ask for, and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for flag in dict.fromkeys(peer.checkout for peer in PEERS.values()):
        parser.add_argument(f"--{flag}", type=Path, metavar="DIR", help="where its code is")
    names = [name for name, peer in PEERS.items() if peer.training]
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    parser.add_argument("--batches", nargs="+", type=int, default=range(len(BATCHES)))
    args = parser.parse_args()
    rows = []
    for name in args.models:
        folder = getattr(args, PEERS[name].checkout)
        if folder is not None:
            rows += [(name, *row) for row in compare(PEERS[name], folder.resolve(), args.batches)]
    print(tabulate(rows, _COLUMNS, tablefmt="github", disable_numparse=True))


def compare(peer: Peer, checkout: Path, batches: Iterable[int]) -> Iterator[tuple[str, ...]]:
    """Yield the differences in each batch, as texts."""
    with registries_as_they_were():
        theirs = peer.build(checkout, "cpu")
    weights = fill(theirs, peer.biases)
    ours = build_ours(peer, weights, "cpu")
    assert peer.training is not None
    for model in (theirs, ours):
        _without_dropout(model.train())
    features = _share_backbone(theirs, ours)
    for number in batches:
        batch = BATCHES[number]
        items = [
            training_picture(size, peer.training[2], 10 * number + index, objects)
            for index, (size, objects) in enumerate(batch)
        ]
        given = [with_mask_tensors(item) for item in items]
        objects = " + ".join(str(count) for _, count in batch)
        our_step = run(ours, items, watch_ours, features)
        try:
            theirs_given = given if peer.checkout == "maskformer" else items
            step = run(theirs, theirs_given, watch_theirs, features)
        except Exception as error:
            finite = all(torch.tensor(list(our_step.losses.values())).isfinite())
            told = f"the other one fails ({type(error).__name__}: {str(error)[:60]})"
            yield objects, told, f"ours are {'' if finite else 'not '}finite", "", ""
            continue
        yield objects, *differences(step, our_step, weights)


def run(model: nn.Module, items: list[dict[str, Any]], watch: Any, features: list[Tensor]) -> Step:
    """Run one step; nothing is updated.

    Args:
        model: either.
        items: the batch.
        watch: what collects its assignments.
        features: where the backbone puts its features, see `_share_backbone`.
    """
    model.zero_grad()
    with watch(model) as assigned:
        losses = model([dict(item) for item in items])
    torch.stack([loss.reshape(()) for loss in losses.values()]).sum().backward()
    gradients = {
        name: value.grad.clone()
        for name, value in _inner(model).named_parameters()
        if value.grad is not None
    }
    for name, feature in zip(_FEATURES, features, strict=False):
        if feature.grad is not None:
            gradients[name] = feature.grad
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    return Step(sorted(assigned), values, gradients)


def differences(theirs: Step, ours: Step, weights: dict[str, Tensor]) -> tuple[str, ...]:
    """Return the differences of what is assigned, of the losses, and of both parts' gradients."""
    differing = len(set(theirs.assigned) ^ set(ours.assigned))
    differing += abs(len(theirs.assigned) - len(ours.assigned))
    # The names of losses are each one's own; their values are not.
    values = [sorted(step.losses.values()) for step in (theirs, ours)]
    greatest = max(map(abs, values[0]))
    loss = max(abs(a - b) for a, b in zip(*values, strict=True)) / greatest
    # A gradient has the name and shape of its weight, and so is converted as weights are.
    zeros = {name: torch.zeros_like(value) for name, value in weights.items()}
    of_weights = {name: theirs.gradients[name] for name in theirs.gradients if name in weights}
    renamed = convert_weights(zeros | of_weights).weights
    renamed |= {name: value for name, value in theirs.gradients.items() if name in _FEATURES}
    gradients = {"weights": 0.0, "features": 0.0}
    for name, value in ours.gradients.items():
        scale = float(renamed[name].abs().max())
        # What is 0 but for rounding has no relative difference.
        if max(scale, float(value.abs().max())) < 1e-7:
            continue
        difference = float((renamed[name] - value).abs().max()) / max(scale, 1e-7)
        part = "features" if name in _FEATURES else "weights"
        gradients[part] = max(gradients[part], difference)
    return (
        f"{differing} of {len(theirs.assigned)}",
        *(f"{value:.1e}" for value in (loss, *gradients.values())),
    )


def _share_backbone(theirs: nn.Module, ours: Any) -> list[Tensor]:
    """Let both models take their features from the other one's backbone; no gradient enters it.

    Returns:
        The list into which each call puts its features, the finest first.
    """
    inner: Any = _inner(theirs)
    is_mmdet = hasattr(inner, "extract_feat")
    original = inner.extract_feat if is_mmdet else inner.backbone.forward
    features: list[Tensor] = []

    def run_backbone(images: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            found = original(images)
        named = dict(zip(_LEVELS, found)) if is_mmdet else found
        named = {name: value.detach().requires_grad_() for name, value in named.items()}
        features[:] = named.values()
        return named

    if is_mmdet:
        inner.extract_feat = lambda images: tuple(run_backbone(images).values())
    else:
        inner.backbone.forward = run_backbone
    ours.backbone.forward = run_backbone
    return features


@contextmanager
def watch_ours(model: Any) -> Iterator[list[tuple[int, ...]]]:
    """Collect what our model assigns."""
    import solo_family.modeling.set_criterion as criterion

    found: list[tuple[int, ...]] = []
    prepare, match = model.prepare_targets, criterion.hungarian_matching

    def prepared(instances: Any, size: Any) -> Any:
        targets = prepare(instances, size)
        if hasattr(targets[0], "labels"):
            found.extend(_cells(targets[0].labels, model.assigner.num_classes))
        return targets

    def matched(costs: Any, counts: Any) -> Any:
        matches = match(costs, counts)
        for layer, (rows, objects) in enumerate(zip(matches.predictions, matches.objects)):
            found.extend((layer, *pair) for pair in zip(rows.tolist(), objects.tolist()))
        return matches

    model.prepare_targets = prepared
    criterion.hungarian_matching = matched  # type: ignore[assignment]
    try:
        yield found
    finally:
        del model.prepare_targets
        criterion.hungarian_matching = match


@contextmanager
def watch_theirs(model: Any) -> Iterator[list[tuple[int, ...]]]:
    """Collect what the other model assigns, in the numbers of ours."""
    found: list[tuple[int, ...]] = []
    inner = _inner(model)
    undo: Callable[[], Any]
    if hasattr(inner, "criterion"):
        count = _Counter(found)
        undo = inner.criterion.matcher.register_forward_hook(count).remove
    else:
        name = "get_ground_truth_single"  # AdelaiDet's; mmdet's heads have the other
        own = hasattr(inner, name)
        owner, name = (inner, name) if own else (inner.mask_head, "_get_targets_single")
        undo = _watch_targets(owner, name, found)
    try:
        yield found
    finally:
        undo()


class _Counter:
    """A hook of a matcher, which numbers predictions and objects of all images in one row.

    Theirs match the last layer first, ours in order.
    """

    def __init__(self, found: list[tuple[int, ...]]) -> None:
        self.found = found
        self.calls: list[list[tuple[int, int]]] = []

    def __call__(self, matcher: Any, args: Any, result: Any) -> None:
        outputs, targets = args[:2]
        num_predictions, first = outputs["pred_logits"].shape[1], 0
        pairs: list[tuple[int, int]] = []
        for image, ((rows, objects), target) in enumerate(zip(result, targets)):
            shifted = [int(row) + image * num_predictions for row in rows]
            pairs += zip(shifted, [int(index) + first for index in objects])
            first += len(target["labels"])
        self.calls.append(pairs)
        order = [*self.calls[1:], self.calls[0]]
        self.found[:] = [(layer, *pair) for layer, each in enumerate(order) for pair in each]


def _watch_targets(owner: Any, name: str, found: list[tuple[int, ...]]) -> Callable[[], None]:
    single, images = getattr(owner, name), iter(range(1000))

    def watched(*args: Any, **kwargs: Any) -> Any:
        result = single(*args, **kwargs)
        labels = torch.cat([level.flatten() for level in result[1]])
        found.extend(_cells(labels[None], owner.num_classes, next(images)))
        return result

    setattr(owner, name, watched)
    return lambda: delattr(owner, name)


def _cells(labels: Tensor, background: int, first: int = 0) -> list[tuple[int, ...]]:
    """Return (image, cell, class) of every positive cell of labels [B, C]."""
    return [
        (first + image, cell, int(labels[image, cell]))
        for image, cell in (labels != background).nonzero().tolist()
    ]


def _inner(model: Any) -> Any:
    """Return the model itself where it is wrapped, as mmdet's are."""
    return getattr(model, "model", model)


def _without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # type: ignore[assignment]


if __name__ == "__main__":
    main()
