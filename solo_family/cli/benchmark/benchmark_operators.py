"""Time operators on random inputs, against plain torch and against a copy of the same bytes."""

import argparse
import re
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from tabulate import tabulate

from ...errors import SoloFamilyError
from ...progress import Progress
from .operator_cases import CASES, Case
from .timing import cuda_graph, median_seconds, peak_bytes

_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "bool": torch.bool,
}
_COLUMNS = {
    "count": "N",
    "size": "size",
    "dtype": "dtype",
    "classes": "classes",
    "milliseconds": "ms",
    "graph_milliseconds": "replayed, ms",
    "plain_ratio": "plain / ours",
    "compiled_ratio": "compiled / ours",
    "megabytes": "MB moved",
    "copies": "copies",
    "bandwidth_share": "of a copy's bandwidth",
    "peak_megabytes": "peak MB",
    "plain_peak_megabytes": "plain peak MB",
}
_MEGABYTE = 1e6


def add_operator_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of operators."""
    parser.add_argument("--op", choices=sorted(CASES), help="time an operator instead of a model")
    group = parser.add_argument_group("with --op, time each combination of")
    group.add_argument("--counts", nargs="+", type=int, default=[100, 500], metavar="N")
    group.add_argument("--sizes", nargs="+", type=_size, default=[(200, 336)], metavar="HxW")
    group.add_argument("--dtypes", nargs="+", choices=list(_DTYPES), default=["float32"])
    group.add_argument("--classes", nargs="+", type=int, default=[80], metavar="K")
    group.add_argument(
        "--no-compile",
        action="store_true",
        help="leave out torch.compile of the plain implementation",
    )


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 200x336")
    return int(match[1]), int(match[2])


def run_operators(args: argparse.Namespace) -> dict[str, Any]:
    """Print a table, and return it together with where it was measured.

    Raises:
        SoloFamilyError: an operator does not support a dtype.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if args.op != "matrix-nms" and "bool" in args.dtypes:
        raise SoloFamilyError(f"--dtypes bool is for matrix-nms only; --op is {args.op}.")
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    about = f"{args.op}, {where}, torch {torch.__version__}, median of {args.repeats} runs"
    print(about)
    combinations = list(product(args.counts, args.sizes, args.dtypes, args.classes))
    rows = []
    for count, size, dtype, classes in Progress(combinations, leave=False):
        case = CASES[args.op](count, size, _DTYPES[dtype], classes, device)
        row = {"count": count, "size": f"{size[0]}x{size[1]}", "dtype": dtype, "classes": classes}
        rows.append(row | measure_case(case, device, args))
    print(operator_table(rows))
    return {"run": about, "rows": rows}


@torch.no_grad()
def measure_case(case: Case, device: torch.device, args: argparse.Namespace) -> dict[str, Any]:
    """Return one row: times, ratios, bytes and peaks."""
    moved = case.inputs + case.outputs
    source = torch.empty(case.inputs, dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    functions: dict[str, Callable[[], Any]] = {
        "ours": case.ours,
        "plain": case.plain,
        "copy": lambda: target.copy_(source),
    }
    if not args.no_compile:
        functions["compiled"] = torch.compile(case.plain)
    if device.type == "cuda" and case.capturable:
        functions["graph"] = cuda_graph(case.ours)
    seconds = median_seconds(functions, device, repeats=args.repeats, warm_up=args.warm_up)
    peaks = {name: peak_bytes(functions[name], device) for name in ("ours", "plain")}
    ours = seconds["ours"]
    row = {
        "milliseconds": 1000 * ours,
        "graph_milliseconds": 1000 * seconds["graph"] if "graph" in seconds else None,
        "plain_ratio": seconds["plain"] / ours,
        "compiled_ratio": seconds["compiled"] / ours if "compiled" in seconds else None,
        "megabytes": moved / _MEGABYTE,
        # How many copies of the input would fit into the same time.
        "copies": seconds.get("graph", ours) / seconds["copy"],
        "bandwidth_share": moved / ours / (2 * case.inputs / seconds["copy"]),
    }
    for name, key in (("ours", "peak_megabytes"), ("plain", "plain_peak_megabytes")):
        peak = peaks[name]
        row[key] = None if peak is None else peak / _MEGABYTE
    return row


def operator_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text; columns without any value are left out."""
    present = [key for key in _COLUMNS if any(row[key] is not None for row in rows)]
    cells = [[_cell(key, row[key]) for key in present] for row in rows]
    return tabulate(cells, [_COLUMNS[key] for key in present], disable_numparse=True)


def _cell(key: str, value: Any) -> str:
    if key == "bandwidth_share":
        return f"{100 * value:.0f} %"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
