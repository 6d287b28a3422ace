"""Ours beside other implementations of the same models: same weights, same pictures, one process.

    python -m benchmarks.peers --input PICTURES --adelaidet DIR --sparseinst DIR --maskformer DIR

The folders are checkouts of github.com/aim-uofa/AdelaiDet, hustvl/SparseInst and
facebookresearch/MaskFormer; `--mmdet` takes a folder of packages, see mmdet_models.py. A model
whose folder is not given is left out. Runs take turns, and a figure is the median of its runs.
Prints the tables that docs/performance.md shows.

In inference ours runs in the ways of `--ways`: plain, as the peer does; optimized, with
`MODEL.INFERENCE.OPTIMIZE auto`; auto, with `MODEL.INFERENCE.PRECISION auto` as well; graph,
optimized and as CUDA graphs; half-graph, the same with weights of half precision (bfloat16 beside a
peer in float32), no autocast. Times are from a picture on the host to masks on the device.
With `--clock cpu` they are the process's CPU seconds, for a machine that does other things too.

In training ours runs in the ways of `--training-ways`: plain, as the peer does; last, with
`SOLVER.CHANNELS_LAST`; half-last, with autocast to bfloat16 as well. On a CPU the last two have the
gradients of `CpuGradients`, as our trainer does.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import nn

from .fixed_weights import fill
from .inputs import read_pictures, training_picture, with_mask_tensors
from .peer_models import PEERS, Peer, build_ours, registries_as_they_were
from .side_by_side import CLOCKS, agreement, graphs_mib, interleaved_seconds, peak_mib

_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
# How ours runs, and the arguments of `prepare_for_inference` that make it so.
_WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "optimized": {"optimize": True},
    "auto": {"optimize": True, "precision": "auto"},
    "graph": {"cuda_graph": True, "optimize": True},
    "half-graph": {"cuda_graph": True, "optimize": True},
}
_TRAINING_WAYS = ("plain", "last", "half-last")
_COLUMNS = (
    "model",
    "what",
    "precision",
    "way",
    "peer",
    "ours",
    "peer / ours",
    "MiB peer",
    "MiB ours",
)

Row = dict[str, Any]
Models = dict[str, nn.Module]


def main() -> None:
    """Measure what the flags ask for, and print it."""
    args = _arguments()
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    where = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    threads = torch.get_num_threads()
    print(f"{where}, torch {torch.__version__}, {threads} threads, {time.strftime('%Y-%m-%d')}")
    rows: list[Row] = []
    for row in _rows(args):
        print(json.dumps(row), flush=True)
        rows.append(row)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(_table([row for row in rows if "error" not in row]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for flag in dict.fromkeys(peer.checkout for peer in PEERS.values()):
        parser.add_argument(f"--{flag}", type=Path, metavar="DIR", help="where its code is")
    parser.add_argument("--input", type=Path, required=True, help="a folder of pictures")
    parser.add_argument("--pictures", type=int, default=4, help="how many of them (default: 4)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="torch's (default: as it is)")
    parser.add_argument("--precisions", nargs="+", choices=_DTYPES, default=["float32"])
    parser.add_argument("--ways", nargs="+", choices=_WAYS, default=["plain"])
    parser.add_argument("--training-ways", nargs="+", choices=_TRAINING_WAYS, default=["plain"])
    parser.add_argument("--models", nargs="+", choices=PEERS, default=list(PEERS))
    whats = ("inference", "training")
    parser.add_argument("--what", nargs="+", choices=whats, default=["inference"])
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="(default: wall)")
    parser.add_argument("--repeats", type=int, default=8, help="timed runs (default: 8)")
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes, to try it quickly")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    return parser.parse_args()


def _rows(args: argparse.Namespace) -> Iterator[Row]:
    kinds = {"inference": _inference, "training": _training}
    pairs = _build(args)
    for what in args.what:
        for name, (peer, models) in pairs.items():
            for row in kinds[what](peer, models, args):
                yield {"model": name, **row}


def _build(args: argparse.Namespace) -> dict[str, tuple[Peer, Models]]:
    """Build every pair of models, the other one first, whose registered names ours take."""
    chosen = {name: PEERS[name] for name in args.models if getattr(args, PEERS[name].checkout)}
    if not chosen:
        raise SystemExit("No code to compare with: give at least one of the folders.")
    with registries_as_they_were():
        theirs = {
            name: peer.build(getattr(args, peer.checkout).resolve(), args.device)
            for name, peer in chosen.items()
        }
    pairs = {}
    for name, peer in chosen.items():
        weights = fill(theirs[name], peer.biases)
        ours = build_ours(peer, weights, args.device)
        pairs[name] = peer, {"peer": theirs[name], "ours": ours}
    return pairs


def _inference(peer: Peer, models: Models, args: argparse.Namespace) -> Iterator[Row]:
    """Measure one picture after the other."""
    short, longest = (max(32, int(side * args.scale)) for side in peer.test_size)
    pictures = read_pictures(args.input, args.pictures, short, longest)

    def run(model: nn.Module, autocast: str) -> list[dict[str, Any]]:
        with torch.no_grad(), _autocast(args.device, autocast):
            return [model([dict(picture)])[0] for picture in pictures]

    for precision, way in product(args.precisions, args.ways):
        row: Row = {"what": "ms per picture", "precision": precision, "way": way}
        with _caught(row):
            ours, autocast = _in_a_way(models["ours"].eval(), way, precision)
            runs = {
                "peer": partial(run, models["peer"].eval(), precision),
                "ours": partial(run, ours, autocast),
            }
            row["agreement"] = agreement(runs["peer"](), runs["ours"]())
            # A size is recorded when it comes again, and memory is that of replays.
            runs["ours"]()
            if way == "auto":
                row["chosen"] = str(ours.weight_dtype).removeprefix("torch.")
            _measure(row, runs, args, share=len(pictures))
            if "graph" in way:
                row["graphs"] = len(ours.graphs)
            if "graph" in way and row["ours_mib"] is not None:
                row["ours_mib"] += graphs_mib(args.device)
        yield row


def _in_a_way(model: Any, way: str, precision: str) -> tuple[Any, str]:
    """Return our model as a way has it, and what it is cast to automatically."""
    if way == "plain":
        return model, precision
    # Here, since the methods of ours are registered under names that theirs have taken before.
    from solo_family.modeling.inference import prepare_for_inference

    options = dict(_WAYS[way])
    if way == "half-graph":
        options["precision"] = "bfloat16" if precision == "float32" else precision
    autocast = precision if way in ("graph", "optimized") else "float32"
    return prepare_for_inference(model, **options), autocast


def _training(peer: Peer, models: Models, args: argparse.Namespace) -> Iterator[Row]:
    """Measure one step: losses, their gradients, and the optimizer's."""
    if peer.training is None:
        return
    count, size, classes = peer.training
    size = tuple(32 * max(2, round(side * args.scale / 32)) for side in size)
    batch = [training_picture(size, classes, seed) for seed in range(count)]
    theirs = batch
    if peer.checkout == "maskformer":
        theirs = [with_mask_tensors(item) for item in batch]
    for precision, way in product(args.precisions, args.training_ways):
        what = f"training step of {count} x {size[0]}x{size[1]}, ms"
        row: Row = {"what": what, "precision": precision, "way": way}
        with _caught(row):
            steps: dict[str, Callable[[], float]] = {
                "peer": _Step(models["peer"], theirs, args.device, precision),
                "ours": _Step(models["ours"], batch, args.device, precision, way),
            }
            losses = [step() for step in steps.values()]
            row["agreement"] = "losses {:.5g}, {:.5g}".format(*losses)
            _measure(row, steps, args)
        for model in models.values():
            model.zero_grad()
        yield row


class _Step:
    """A training step of one model, on the same batch each time, at a rate that changes little."""

    def __init__(
        self,
        model: Any,
        batch: list[dict],
        device: str,
        precision: str,
        way: str = "plain",
    ) -> None:
        self.last = way != "plain"
        order = torch.channels_last if self.last else torch.contiguous_format
        self.model, self.batch = model.train().to(memory_format=order), batch
        self.device, self.precision = device, "bfloat16" if way == "half-last" else precision
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, 1e-6)

    def __call__(self) -> float:
        self.optimizer.zero_grad()
        with _autocast(self.device, self.precision), self._gradients():
            loss = sum(self.model([dict(item) for item in self.batch]).values())
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _gradients(self) -> AbstractContextManager[Any]:
        if self.device != "cpu" or not self.last:
            return nullcontext()
        from solo_family.modeling.cpu_gradients import CpuGradients  # here: see `_in_a_way`

        return CpuGradients()


def _measure(
    row: Row, runs: Mapping[str, Callable[[], Any]], args: argparse.Namespace, share: int = 1
) -> None:
    seconds = interleaved_seconds(runs, args.device, args.repeats, args.clock)
    row |= {who: 1e3 * value / share for who, value in seconds.items()}
    row["ratio"] = seconds["peer"] / seconds["ours"]
    row |= {f"{who}_mib": peak_mib(run, args.device) for who, run in runs.items()}


@contextmanager
def _caught(row: Row) -> Iterator[None]:
    """What fails, out of memory for instance, is a row, and the others go on."""
    try:
        yield
    except Exception:
        traceback.print_exc()
        row["error"] = traceback.format_exc().splitlines()[-1][:300]


def _autocast(device: str, precision: str) -> torch.autocast:
    dtype = _DTYPES[precision]
    return torch.autocast(device, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def _table(rows: list[Row]) -> str:
    cells = [
        [
            *(row["model"], row["what"], row["precision"], row.get("way", "")),
            *(f"{row['peer']:.2f}", f"{row['ours']:.2f}", f"{row['ratio']:.2f}"),
            *("" if row[key] is None else f"{row[key]:.0f}" for key in ("peer_mib", "ours_mib")),
        ]
        for row in rows
    ]
    return tabulate(cells, _COLUMNS, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    main()
