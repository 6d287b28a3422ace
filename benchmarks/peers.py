"""Ours beside other implementations of the same models: same weights, same pictures, one process.

    python -m benchmarks.peers --input PICTURES --adelaidet DIR --sparseinst DIR --maskformer DIR

The folders are checkouts of github.com/aim-uofa/AdelaiDet, hustvl/SparseInst and
facebookresearch/MaskFormer; a model whose folder is not given is left out. Runs take turns, and a
figure is the median of its runs. Prints the tables that docs/performance.md shows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import BitMasks, Instances
from tabulate import tabulate
from torch import nn

from .fixed_weights import fill
from .peer_models import PEERS, Peer, build_ours, registries_as_they_were

_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_OBJECTS = 7


def main() -> None:
    args = _arguments()
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    where = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    threads = torch.get_num_threads()
    print(f"{where}, torch {torch.__version__}, {threads} threads, {time.strftime('%Y-%m-%d')}")
    pairs = _build(args)
    rows: list[dict[str, Any]] = []

    def note(row: dict[str, Any]) -> None:
        print(json.dumps(row), flush=True)
        rows.append(row)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1))

    for name, (peer, theirs, ours) in pairs.items():
        if "inference" in args.what:
            _inference(name, peer, theirs, ours, args, note)
    for name, (peer, theirs, ours) in pairs.items():
        if "training" in args.what:
            _training(name, peer, theirs, ours, args, note)
    print(_table([row for row in rows if "error" not in row]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for flag in dict.fromkeys(peer.checkout for peer in PEERS.values()):
        parser.add_argument(f"--{flag}", type=Path, metavar="DIR", help="a checkout's root")
    parser.add_argument("--input", type=Path, required=True, help="a folder of pictures")
    parser.add_argument("--pictures", type=int, default=4, help="how many of them (default: 4)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="torch's (default: as it is)")
    parser.add_argument("--precisions", nargs="+", choices=_DTYPES, default=["float32"])
    parser.add_argument("--models", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument(
        "--what", nargs="+", choices=("inference", "training"), default=["inference"]
    )
    parser.add_argument("--repeats", type=int, default=8, help="timed runs (default: 8)")
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes, to try it quickly")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    return parser.parse_args()


def _build(args: argparse.Namespace) -> dict[str, tuple[Peer, nn.Module, nn.Module]]:
    chosen = {name: PEERS[name] for name in args.models if getattr(args, PEERS[name].checkout)}
    if not chosen:
        raise SystemExit("No checkout is given: --adelaidet, --sparseinst or --maskformer DIR.")
    with registries_as_they_were():
        theirs = {
            name: peer.build(getattr(args, peer.checkout).resolve(), args.device)
            for name, peer in chosen.items()
        }
    pairs = {}
    for name, peer in chosen.items():
        weights = fill(theirs[name], peer.biases)
        pairs[name] = peer, theirs[name], build_ours(peer, weights, args.device)
    return pairs


def _inference(
    name: str,
    peer: Peer,
    theirs: nn.Module,
    ours: nn.Module,
    args: argparse.Namespace,
    note: Callable[[dict[str, Any]], None],
) -> None:
    pictures = _pictures(args.input, peer.test_size, args)
    models = {"peer": theirs.eval(), "ours": ours.eval()}
    for precision in args.precisions:
        row: dict[str, Any] = {"model": name, "what": "ms per picture", "precision": precision}

        def run(model: nn.Module) -> list[dict[str, Any]]:
            return [model([dict(picture)])[0] for picture in pictures]

        try:
            with torch.no_grad(), _autocast(args.device, precision):
                results = {who: run(model) for who, model in models.items()}
                row["agreement"] = _agreement(results["peer"], results["ours"])
                del results
                seconds = _interleaved(models, run, args)
                row |= {who: 1e3 * value / len(pictures) for who, value in seconds.items()}
                row["ratio"] = seconds["peer"] / seconds["ours"]
                for who, model in models.items():
                    row[f"{who}_mib"] = _peak(lambda model=model: run(model), args.device)
        except Exception:
            traceback.print_exc()
            row["error"] = traceback.format_exc().splitlines()[-1][:300]
        note(row)


def _training(
    name: str,
    peer: Peer,
    theirs: nn.Module,
    ours: nn.Module,
    args: argparse.Namespace,
    note: Callable[[dict[str, Any]], None],
) -> None:
    count, size, classes = peer.training
    size = tuple(32 * max(2, round(side * args.scale / 32)) for side in size)
    batch = [_training_picture(size, classes, seed) for seed in range(count)]
    as_tensors = name.startswith("MaskFormer")
    batches = {
        "peer": [_with_mask_tensors(item) for item in batch] if as_tensors else batch,
        "ours": batch,
    }
    models = {"peer": theirs.train(), "ours": ours.train()}
    optimizers = {
        who: torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-6)
        for who, model in models.items()
    }
    what = f"training step of {count} x {size[0]}x{size[1]}, ms"
    for precision in args.precisions:
        row: dict[str, Any] = {"model": name, "what": what, "precision": precision}
        losses: dict[str, float] = {}

        def step(who: str) -> None:
            optimizers[who].zero_grad()
            with _autocast(args.device, precision):
                loss = sum(models[who]([dict(item) for item in batches[who]]).values())
            loss.backward()
            optimizers[who].step()
            losses[who] = float(loss)

        try:
            for who in models:
                step(who)
                row[f"{who}_mib"] = _peak(lambda who=who: step(who), args.device)
            seconds = _interleaved({who: who for who in models}, step, args)
            row |= {who: 1e3 * value for who, value in seconds.items()}
            row["ratio"] = seconds["peer"] / seconds["ours"]
            row["agreement"] = f"losses {losses['peer']:.5g}, {losses['ours']:.5g}"
        except Exception:
            traceback.print_exc()
            row["error"] = traceback.format_exc().splitlines()[-1][:300]
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        note(row)


def _autocast(device: str, precision: str) -> torch.autocast:
    dtype = _DTYPES[precision]
    return torch.autocast(device, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def _interleaved(
    subjects: dict[str, Any], run: Callable[[Any], Any], args: argparse.Namespace
) -> dict[str, float]:
    """Each subject's median time in seconds; they take turns."""
    seconds: dict[str, list[float]] = {who: [] for who in subjects}
    for _ in range(2):
        for subject in subjects.values():
            run(subject)
    for _ in range(args.repeats):
        for who, subject in subjects.items():
            _wait(args.device)
            start = time.perf_counter()
            run(subject)
            _wait(args.device)
            seconds[who].append(time.perf_counter() - start)
    return {who: statistics.median(values) for who, values in seconds.items()}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak(run: Callable[[], Any], device: str) -> float | None:
    """MiB of the GPU that a run needs beyond what was in use before it."""
    if device != "cuda":
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _pictures(folder: Path, test_size: tuple[int, int], args: argparse.Namespace) -> list[dict]:
    short, longest = (max(32, int(side * args.scale)) for side in test_size)
    resize = ResizeShortestEdge(short, longest)
    items = []
    for file in sorted(folder.iterdir())[: args.pictures]:
        picture = cv2.imread(str(file))
        if picture is None:
            raise SystemExit(f"{file} is no picture.")
        resized = resize.get_transform(picture).apply_image(picture)
        image = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        items.append({"image": image, "height": picture.shape[0], "width": picture.shape[1]})
    return items


def _training_picture(size: tuple[int, int], classes: int, seed: int) -> dict[str, Any]:
    """Noise, and the masks of some ellipses."""
    rng = np.random.default_rng(seed)
    height, width = size
    masks = np.zeros((_OBJECTS, height, width), np.uint8)
    for mask in masks:
        centre = int(rng.integers(8, width - 8)), int(rng.integers(8, height - 8))
        axes = int(rng.integers(8, width // 4)), int(rng.integers(8, height // 4))
        cv2.ellipse(mask, centre, axes, int(rng.integers(0, 180)), 0, 360, 1, -1)
    truth = BitMasks(torch.from_numpy(masks > 0))
    instances = Instances(
        size,
        gt_masks=truth,
        gt_boxes=truth.get_bounding_boxes(),
        gt_classes=torch.from_numpy(rng.integers(0, classes, _OBJECTS)),
    )
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
    return {"image": image, "instances": instances, "height": height, "width": width}


def _with_mask_tensors(item: dict[str, Any]) -> dict[str, Any]:
    """The item as MaskFormer's own data loader gives it: masks as a plain tensor."""
    given = item["instances"]
    instances = Instances(given.image_size, gt_classes=given.gt_classes)
    instances.gt_masks = given.gt_masks.tensor
    return {**item, "instances": instances}


def _agreement(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> str:
    """How alike two lists of results are."""
    if "panoptic_seg" in theirs[0]:
        same = [
            float((a["panoptic_seg"][0] == b["panoptic_seg"][0].to(a["panoptic_seg"][0].device))
                  .float().mean())
            for a, b in zip(theirs, ours)
        ]  # fmt: skip
        return f"{100 * min(same):.2f} % of pixels"
    if "sem_seg" in theirs[0]:
        return f"{max(float((a['sem_seg'] - b['sem_seg']).abs().max()) for a, b in zip(theirs, ours)):.1e}"
    pairs = [(a["instances"].scores, b["instances"].scores) for a, b in zip(theirs, ours)]
    counts = ", ".join(f"{len(a)}/{len(b)}" for a, b in pairs)
    gaps = [
        float((a.sort(descending=True)[0][:n] - b.sort(descending=True)[0][:n]).abs().max())
        for a, b in pairs
        if (n := min(len(a), len(b)))
    ]
    return f"found {counts}; scores {max(gaps, default=0.0):.1e}"


def _table(rows: list[dict[str, Any]]) -> str:
    header = ["model", "what", "precision", "peer", "ours", "peer / ours", "MiB peer", "MiB ours"]
    cells = [
        [
            *(row["model"], row["what"], row["precision"]),
            *(f"{row['peer']:.2f}", f"{row['ours']:.2f}", f"{row['ratio']:.2f}"),
            *("" if row[key] is None else f"{row[key]:.0f}" for key in ("peer_mib", "ours_mib")),
        ]
        for row in rows
    ]
    return tabulate(cells, header, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    main()
